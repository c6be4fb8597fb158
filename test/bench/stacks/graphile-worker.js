// graphile-worker, with its local queue and with its completions in batches. A task ends when its
// attempt is recorded, together with those of the other tasks that wait for the same.

import { Logger, makeWorkerUtils, run } from 'graphile-worker';
import { deliver, eventsInChunks, main, makeAttempts, makePool, recordAttempts, settings } from './common.js';

const db = makePool(12);
const logger = new Logger(() => () => {});

async function enqueue() {
	const utils = await makeWorkerUtils({ pgPool: db, logger });
	await utils.migrate();
	await db.query(makeAttempts);
	for (const events of eventsInChunks(1000)) {
		await db.query(`SELECT count(*) FROM graphile_worker.add_jobs(ARRAY(
			SELECT job FROM json_populate_recordset(NULL::graphile_worker.job_spec, $1::json) job))`,
			[JSON.stringify(events.map((event) => ({ identifier: 'deliver', payload: event })))]);
	}
}

let waiting = [];
let recording = false;

async function flush() {
	recording = true;
	while (waiting.length > 0) {
		const batch = waiting;
		waiting = [];
		await recordAttempts(db, batch.map((w) => w.attempt));
		for (const w of batch) w.resolve();
	}
	recording = false;
}

function record(attempt) {
	return new Promise((resolve) => {
		waiting.push({ attempt, resolve });
		if (!recording) flush();
	});
}

async function drain(delivered) {
	await run({
		pgPool: db,
		logger,
		crontab: '',
		noHandleSignals: true,
		taskList: {
			deliver: async (event) => {
				await record(await deliver(event));
				delivered(1);
			},
		},
		preset: { worker: { concurrentJobs: settings.concurrency, localQueue: { size: settings.batch }, completeJobBatchDelay: 0 } },
	});
}

await main(enqueue, drain);
