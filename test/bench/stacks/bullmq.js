// BullMQ. It records in Redis that a job has ended; no attempt row is written.

import { Queue, Worker } from 'bullmq';
import { Redis } from 'ioredis';
import { deliver, eventsInChunks, main, settings } from './common.js';

const connection = () => new Redis(settings.redis, { maxRetriesPerRequest: null });

async function enqueue() {
	const queue = new Queue('webhooks', { connection: connection() });
	for (const events of eventsInChunks(1000)) {
		await queue.addBulk(events.map((event) => ({ name: 'deliver', data: event, opts: { removeOnComplete: true } })));
	}
}

async function drain(delivered) {
	const worker = new Worker('webhooks', (job) => deliver(job.data).then(() => undefined), {
		connection: connection(),
		concurrency: settings.concurrency,
	});
	worker.on('completed', () => delivered(1));
	worker.on('failed', (job, error) => { throw error; });
	worker.on('error', (error) => { throw error; });
}

await main(enqueue, drain);
