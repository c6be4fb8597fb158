// What the stacks share: the events, the signed request by undici, and the table of attempts.
// "enqueue" fills a stack's queue; "drain" empties it with some Node processes and prints deliveries/s,
// from the start of the first request until the last delivery has ended.

import { fork } from 'node:child_process';
import { createHmac, randomBytes, randomUUID } from 'node:crypto';
import { once } from 'node:events';
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
	processes: number('STACK_PROCESSES', 1),		// that drain
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

let firstAt;	// when this process began its first request, in ms since the epoch

// Sends the event and returns what is to be recorded of the attempt.
export async function deliver(event) {
	const { path, key } = endpoints[event.endpoint];
	const attemptedAt = new Date();
	firstAt ??= attemptedAt.getTime();
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

// A process that drains: tells its parent how many deliveries have ended, and is ended by it.
async function drainForParent(drain) {
	let ended = 0;
	process.on('disconnect', () => process.exit(1));
	process.send({ ready: true });
	await once(process, 'message');
	setInterval(() => {
		if (ended > 0) process.send({ ended, firstAt });
		ended = 0;
	}, 20);
	await drain((n) => { ended += n; });
}

async function drainInProcesses() {
	const children = Array.from({ length: settings.processes }, () => fork(process.argv[1], ['drain for parent']));
	let left = settings.count;
	let began = Infinity;
	await Promise.all(children.map((child) => once(child, 'message')));
	await new Promise((resolve, reject) => {
		for (const child of children) {
			child.on('message', ({ ended, firstAt }) => {
				left -= ended;
				began = Math.min(began, firstAt);
				if (left <= 0) resolve();
			});
			child.on('exit', (status) => reject(new Error(`a process ended with status ${status}`)));
			child.send('begin');
		}
	});
	console.log(Math.round(settings.count / ((Date.now() - began) / 1000)));
	for (const child of children) child.kill();
}

// A stack's drain calls delivered(n) as deliveries end; it need not return.
export async function main(enqueue, drain) {
	switch (process.argv[2]) {
		case 'enqueue': await enqueue(); break;
		case 'drain': await drainInProcesses(); break;
		case 'drain for parent': await drainForParent(drain); return;
	}
	process.exit(0);
}
