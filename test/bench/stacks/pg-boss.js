// pg-boss. Its work() fetches a batch each half second at most, so fetch() and complete() are called
// in loops of our own, which has no such bound; a batch's attempts are recorded in one statement.

import PgBoss from 'pg-boss';
import { deliver, eventsInChunks, main, makeAttempts, makePool, recordAttempts, settings } from './common.js';

const db = makePool(settings.concurrency + 2);

async function start(options) {
	const boss = new PgBoss({ db: { executeSql: (text, values) => db.query(text, values) }, schedule: false, ...options });
	boss.on('error', (error) => { throw error; });
	await boss.start();
	return boss;
}

async function enqueue() {
	const boss = await start();
	await db.query(makeAttempts);
	await boss.createQueue('webhooks');
	for (const events of eventsInChunks(1000)) {
		await boss.insert(events.map((event) => ({ name: 'webhooks', data: event })));
	}
}

async function drain(delivered) {
	const boss = await start({ supervise: false, migrate: false });
	const loop = async () => {
		for (;;) {
			const jobs = await boss.fetch('webhooks', { batchSize: settings.batch, priority: false });
			if (jobs.length === 0) return;
			await recordAttempts(db, await Promise.all(jobs.map((job) => deliver(job.data))));
			await boss.complete('webhooks', jobs.map((job) => job.id));
			delivered(jobs.length);
		}
	};
	await Promise.all(Array.from({ length: settings.concurrency }, loop));
}

await main(enqueue, drain);
