// One measurement of the browser's engine, or of a runtime for networks, in Node; prints JSON.
//
//   node web_engine.mjs cube RUNTIME MODEL SIDE THREADS NODE_MODULES
//   node web_engine.mjs scan ours MODEL SCAN THREADS NODE_MODULES
//
// RUNTIME is ours, onnxruntime-web or tfjs; MODEL a folder that `write_model` of
// brainchop_bids.models.formats.web_manifest wrote; for tfjs its parent has NAME-tfjs beside it.
import { createRequire } from 'node:module';
import { readFileSync } from 'node:fs';
import { dirname } from 'node:path';

const [what, runtime, folder, given, threads, modules] = process.argv.slice(2);
const load = (name) => import(new URL(`../web/src/engine/${name}.js`, import.meta.url));
const require_ = createRequire(`${modules}/`);

function read(path) {
  const bytes = readFileSync(path);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
}

const modelOf = (path) => ({
  manifest: JSON.parse(readFileSync(`${path}/manifest.json`, 'utf8')),
  weights: read(`${path}/model.onnx`),
});

/** Multiplications for each voxel. */
async function productsOf({ weights }) {
  const { readOnnx } = await load('onnx');
  const { stepsOfOnnx } = await load('steps');
  const steps = stepsOfOnnx(readOnnx(new Uint8Array(weights), 'model'));
  return steps.reduce((sum, { size, inputs, outputs }) => sum + size ** 3 * inputs * outputs, 0);
}

async function byTfjs(side) {
  const tf = require_('@tensorflow/tfjs');
  const backend = require_('@tensorflow/tfjs-backend-wasm');
  backend.setWasmPaths(`${dirname(require_.resolve('@tensorflow/tfjs-backend-wasm'))}/`);
  backend.setThreadsCount(Number(threads));
  await tf.setBackend('wasm');
  const content = JSON.parse(readFileSync(`${folder}-tfjs/model.json`, 'utf8'));
  const [group] = content.weightsManifest;
  const model = await tf.loadLayersModel(
    tf.io.fromMemory({
      modelTopology: content.modelTopology,
      weightSpecs: group.weights,
      weightData: read(`${folder}-tfjs/${group.paths[0]}`),
    }),
  );
  const input = tf.randomUniform([1, side, side, side, 1]);
  // The file has a fixed shape of its input, which is no obstacle layer by layer.
  return async () => model.layers.slice(1).reduce((x, layer) => layer.apply(x), input).dataSync();
}

async function byOnnx(side, model) {
  const { loadOrt, openSession } = await load('ort');
  const ort = await loadOrt({ module: require_('onnxruntime-web') }, Number(threads));
  const session = await openSession(ort, model.weights, 'model');
  const values = new Float32Array(side ** 3).map(Math.random);
  return () => session.run({ input: new ort.Tensor('float32', values, [1, 1, side, side, side]) });
}

async function byOurs(side, model) {
  const { label } = await load('network');
  const volume = new Uint8Array(side ** 3).map(() => 255 * Math.random());
  const table = Float32Array.from({ length: 256 }, (_, value) => value / 255);
  const dims = [side, side, side];
  const box = { low: [0, 0, 0], high: dims };
  return () => label({ model, volume, dims, box, table, threads: Number(threads) });
}

const model = modelOf(folder);
const facts = {};
let work;
if (what === 'cube') {
  const side = Number(given);
  const make = { ours: byOurs, 'onnxruntime-web': byOnnx, tfjs: byTfjs }[runtime];
  work = await make(side, model);
  facts.gflop = (2 * (await productsOf(model)) * side ** 3) / 1e9;
} else {
  const { segment } = await load('segment');
  const ort = { module: require_('onnxruntime-web') };
  work = async () => {
    const localiser = modelOf(`${dirname(folder)}/locate-brain`);
    const options = { threads: Number(threads), ort };
    const scan = { name: given, data: read(given) };
    const { seconds } = await segment({ scan, model: { ...model, localiser }, options });
    facts.parts = seconds;
  };
}
const [began, cpu] = [performance.now(), process.cpuUsage()];
await work();
const used = process.cpuUsage(cpu);
console.log(
  JSON.stringify({
    ...facts,
    seconds: (performance.now() - began) / 1000,
    cpu: (used.user + used.system) / 1e6,
    peak_mb: process.resourceUsage().maxRSS / 1000,
  }),
);
process.exit(0);
