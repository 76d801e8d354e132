/** A further thread for a chain of convolutions, see `chain.js`. */
import { makeThread } from './chain_jobs.js';

/** @param {any} message */
async function run({ plan, memory, control, module, thread }) {
  const { exports } = await WebAssembly.instantiate(module, { env: { memory } });
  const { count, work } = makeThread(plan, memory, control, exports, thread);
  for (let job = 0; job < count && work(job); job++);
}

if (typeof self === 'undefined') {
  const name = 'node:worker_threads';
  const { parentPort } = await import(/* @vite-ignore */ name);
  parentPort.on('message', run);
} else {
  self.onmessage = ({ data }) => run(data);
}
