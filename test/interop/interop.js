// Does with each library what it is asked to, a JSON object a line, and answers with one a line:
//
//   {"do": "verify", "library", "secret", "url", "headers", "body"}  →  {"valid"} or {"valid": false, "reason"}
//   {"do": "sign", "library", "secret", "id", "url", "body"}  →  {"headers"}
//
// Headers' names are in lower case. Nothing of the extension's code is used.

import { createHash, createHmac, createPrivateKey, createPublicKey, sign, timingSafeEqual, verify } from 'node:crypto';
import { createInterface } from 'node:readline';
import { sign as githubSign, verify as githubVerify } from '@octokit/webhooks-methods';
import { createSigner, createVerifier, httpbis } from 'http-message-signatures';
import { Webhook as StandardWebhook } from 'standardwebhooks';
import Stripe from 'stripe';
import { Webhook as SvixWebhook } from 'svix';

const stripe = new Stripe('sk_test_none');
const seconds = () => Math.floor(Date.now() / 1000);
const decoded = (text) => Buffer.from(text.slice(text.indexOf('_') + 1), 'base64');

// Ed25519 keys as Node takes them: RFC 8410, 7, of which only the key itself differs.
const publicKey = (raw) => createPublicKey({ key: Buffer.concat([Buffer.from('302a300506032b6570032100', 'hex'), raw]), format: 'der', type: 'spki' });
const privateKey = (seed) => createPrivateKey({ key: Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]), format: 'der', type: 'pkcs8' });

// What a receiver knows a key by: RFC 7638.
const thumbprint = (secret) => createHash('sha256').update(secret.startsWith('whpk_')
	? `{"crv":"Ed25519","kty":"OKP","x":"${decoded(secret).toString('base64url')}"}`
	: `{"k":"${decoded(secret).toString('base64url')}","kty":"oct"}`).digest('base64url');

const contentDigest = (body) => `sha-256=:${createHash('sha256').update(body).digest('base64')}:`;

function standardHeaders(prefix, id, signature, at) {
	return { [`${prefix}id`]: id, [`${prefix}timestamp`]: String(at), [`${prefix}signature`]: signature };
}

const libraries = {
	standardwebhooks: {
		verify: (m, secret) => { new StandardWebhook(secret).verify(m.body, m.headers); return true; },
		sign: (m) => standardHeaders('webhook-', m.id, new StandardWebhook(m.secret).sign(m.id, new Date(), m.body), seconds()),
	},
	svix: {
		verify: (m, secret) => { new SvixWebhook(secret).verify(m.body, m.headers); return true; },
		sign: (m) => standardHeaders('svix-', m.id, new SvixWebhook(m.secret).sign(m.id, new Date(), m.body), seconds()),
	},
	stripe: {
		verify: (m, secret) => stripe.webhooks.constructEvent(m.body, m.headers['stripe-signature'], secret) !== null,
		sign: (m) => ({ 'stripe-signature': stripe.webhooks.generateTestHeaderString({ payload: m.body, secret: m.secret }) }),
	},
	octokit: {
		verify: (m, secret) => githubVerify(secret, m.body, m.headers['x-hub-signature-256']),
		sign: async (m) => ({ 'x-hub-signature-256': await githubSign(m.secret, m.body), 'x-github-delivery': m.id, 'x-github-event': 'push' }),
	},
	'http-message-signatures': {
		verify: async (m, secret) => {
			const key = secret.startsWith('whpk_') ? createVerifier(publicKey(decoded(secret)), 'ed25519') : createVerifier(decoded(secret), 'hmac-sha256');
			return m.headers['content-digest'] === contentDigest(m.body) && await httpbis.verifyMessage({
				keyLookup: async ({ keyid }) => keyid === thumbprint(secret) ? { id: keyid, verify: key } : null,
				requiredFields: ['@method', '@authority', '@path', 'content-digest', 'content-type', 'webhook-id', 'webhook-timestamp'],
				requiredParams: ['created', 'keyid', 'alg'],
				maxAge: 60,
				tolerance: 5,
			}, { method: 'POST', url: m.url, headers: m.headers }) === true;
		},
		sign: async (m) => {
			const key = m.secret.startsWith('whsk_') ? createSigner(privateKey(decoded(m.secret).subarray(0, 32)), 'ed25519', 'own') : createSigner(decoded(m.secret), 'hmac-sha256', 'own');
			const headers = { 'content-type': 'application/json', 'content-digest': contentDigest(m.body), 'webhook-id': m.id, 'webhook-timestamp': String(seconds()) };
			const signed = await httpbis.signMessage({ key, fields: ['@method', '@target-uri', '@authority', '@path', '@query', ...Object.keys(headers)] },
				{ method: 'POST', url: m.url, headers });
			return Object.fromEntries(Object.entries(signed.headers).map(([name, value]) => [name.toLowerCase(), value]));
		},
	},

	// No library of its own: Standard Webhooks' v1a by Node's Ed25519, and x-webhook by its HMAC.
	v1a: {
		verify: (m, secret) => m.headers['webhook-signature'].split(' ').some((s) => s.startsWith('v1a,') &&
			verify(null, Buffer.from(`${m.headers['webhook-id']}.${m.headers['webhook-timestamp']}.${m.body}`), publicKey(decoded(secret)), Buffer.from(s.slice(4), 'base64'))),
		sign: (m) => { const at = seconds(); return standardHeaders('webhook-', m.id,
			`v1a,${sign(null, Buffer.from(`${m.id}.${at}.${m.body}`), privateKey(decoded(m.secret).subarray(0, 32))).toString('base64')}`, at); },
	},
	'x-webhook': {
		verify: (m, secret) => timingSafeEqual(Buffer.from(m.headers['x-webhook-signature']),
			Buffer.from(`v1=${createHmac('sha256', secret).update(`${m.headers['x-webhook-timestamp']}.${m.body}`).digest('hex')}`)),
		sign: (m) => { const at = String(seconds()); return { 'x-webhook-id': m.id, 'x-webhook-event': 'a.b', 'x-webhook-timestamp': at,
			'x-webhook-signature': `v1=${createHmac('sha256', m.secret).update(`${at}.${m.body}`).digest('hex')}` }; },
	},
};

async function answer(m) {
	const library = libraries[m.library];
	if (m.do === 'sign')
		return { headers: await library.sign(m) };
	try {
		return { valid: await library.verify(m, m.secret) };
	} catch (error) {
		return { valid: false, reason: String(error.message) };
	}
}

for await (const line of createInterface({ input: process.stdin }))
	console.log(JSON.stringify(await answer(JSON.parse(line))));
