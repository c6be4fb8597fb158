// What the stacks share: the events, the signed request by undici, and the table of attempts. Each
// stack is one Node process; "enqueue" fills its queue, "drain" empties it and prints deliveries/s.

import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import pg from 'pg';
import { Pool } from 'undici';

const number = (name, otherwise) => Number(process.env[name] ?? otherwise);

export const settings = {
	url: process.env.STACK_URL,
	count: number('STACK_COUNT', 50000),
	endpoints: number('STACK_ENDPOINTS', 1000),
	payload: process.env.STACK_PAYLOAD,
	redis: process.env.STACK_REDIS,
	connections: number('STACK_CONNECTIONS', 64),	// to the receiver
	concurrency: number('STACK_CONCURRENCY', 100),	// jobs at a time, or loops of pg-boss
	batch: number('STACK_BATCH', 500),				// jobs fetched at once
};

// One endpoint's path and signing key each, known to the process: a stack would look them up.
const endpoints = Array.from({ length: settings.endpoints }, (_, n) => ({ path: `/e${n}`, key: randomBytes(32) }));
const receiver = new Pool(settings.url, { connections: settings.connections });

export function* eventsInChunks(size) {
	const payload = JSON.parse(settings.payload);
	for (let n = 0; n < settings.count; n += size) {
		yield Array.from({ length: Math.min(size, settings.count - n) }, (_, i) => ({
			id: randomUUID(),
			endpoint: (n + i) % settings.endpoints,
			occurredAt: new Date().toISOString(),
			payload,
		}));
	}
}

// By a handler of our own, which is faster than undici's request() with its stream for each answer.
function request(options) {
	return new Promise((resolve, reject) => {
		let status;
		receiver.dispatch(options, {
			onRequestStart() {},
			onResponseStart(controller, statusCode) { status = statusCode; },
			onResponseData() {},
			onResponseEnd() { resolve(status); },
			onResponseError(controller, error) { reject(error); },
		});
	});
}

// Sends the event and returns what is to be recorded of the attempt.
export async function deliver(event) {
	const { path, key } = endpoints[event.endpoint];
	const attemptedAt = new Date();
	const began = performance.now();
	const timestamp = String(Math.floor(attemptedAt / 1000));
	const body = JSON.stringify({ type: `bench.e${event.endpoint}`, timestamp: event.occurredAt, data: event.payload });
	const signature = createHmac('sha256', key).update(`${event.id}.${timestamp}.${body}`).digest('base64');
	const headers = {
		'content-type': 'application/json',
		'user-agent': 'pg-webhooks/0.1.0',
		'webhook-id': event.id,
		'webhook-timestamp': timestamp,
		'webhook-signature': `v1,${signature}`,
	};
	const statusCode = await request({ path, method: 'POST', headers, body });
	if (statusCode !== 200) throw new Error(`HTTP status ${statusCode}`);
	return { eventId: event.id, endpoint: event.endpoint, attemptedAt, durationMs: performance.now() - began };
}

export const makeAttempts = `CREATE TABLE IF NOT EXISTS stack_attempts (event_id uuid NOT NULL, endpoint integer NOT NULL,
	attempted_at timestamptz NOT NULL, duration_ms real, outcome text NOT NULL, status_code integer)`;

export const makePool = (max) => new pg.Pool({ max });

export async function recordAttempts(db, attempts) {
	await db.query({
		name: 'record',
		text: `INSERT INTO stack_attempts SELECT u.*, 'succeeded', 200
			FROM unnest($1::uuid[], $2::integer[], $3::timestamptz[], $4::real[]) u`,
		values: [
			attempts.map((a) => a.eventId),
			attempts.map((a) => a.endpoint),
			attempts.map((a) => a.attemptedAt),
			attempts.map((a) => a.durationMs),
		],
	});
}

// A stack's drain calls delivered(n) as deliveries end, and awaits done.
export class Progress {
	#left = settings.count;
	#began = performance.now();
	#end;
	done = new Promise((resolve) => { this.#end = resolve; });

	delivered(n) {
		this.#left -= n;
		if (this.#left > 0) return;
		this.rate = settings.count / ((performance.now() - this.#began) / 1000);
		this.#end();
	}
}

export async function main(enqueue, drain) {
	if (process.argv[2] === 'enqueue') {
		await enqueue();
	} else {
		const progress = new Progress();
		await drain(progress);
		console.log(Math.round(progress.rate));
	}
	process.exit(0);
}
