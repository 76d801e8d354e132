// Times the localiser's network on batches of noise, in a thread of its own.
import * as ort from 'onnxruntime-web/wasm';

const SIDE = 64;
// A batch is repeated until it has run so long, ms, or so often.
const [LONG, OFTEN] = [1500, 20];

async function measure({ weights, threads, sizes }) {
  ort.env.wasm.numThreads = threads;
  const session = await ort.InferenceSession.create(weights, { executionProviders: ['wasm'] });
  const noise = Float32Array.from({ length: Math.max(...sizes) * SIDE * SIDE }, Math.random);
  for (const size of sizes) {
    const dims = [size, 1, SIDE, SIDE];
    const batch = new ort.Tensor('float32', noise.subarray(0, size * SIDE * SIDE), dims);
    const run = async () => {
      const begun = performance.now();
      const made = await session.run({ [session.inputNames[0]]: batch });
      const took = performance.now() - begun;
      for (const tensor of Object.values(made)) tensor.dispose();
      return took;
    };
    // The first run of a shape also allocates.
    await run();
    const times = [];
    let sum = 0;
    while (!times.length || (sum < LONG && times.length < OFTEN)) {
      times.push(await run());
      sum += times.at(-1);
    }
    postMessage({ type: 'time', size, ms: median(times) });
  }
  postMessage({ type: 'end' });
}

function median(times) {
  const sorted = times.toSorted((a, b) => a - b);
  const half = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
}

addEventListener('message', ({ data }) => {
  measure(data).catch((error) => postMessage({ type: 'error', message: error.message }));
});
