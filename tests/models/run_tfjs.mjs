// Runs a tfjs layers-format folder on a raw float32 volume, by TensorFlow.js itself.
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';

const [modules, folder, input, output, ...shape] = process.argv.slice(2);
const tf = createRequire(modules + '/')('@tensorflow/tfjs');
const content = JSON.parse(readFileSync(`${folder}/model.json`, 'utf8'));
const [group] = content.weightsManifest;
const bytes = Buffer.concat(group.paths.map((path) => readFileSync(`${folder}/${path}`)));
const floats = (buffer) =>
  buffer.buffer.slice(buffer.byteOffset, buffer.byteOffset + buffer.byteLength);
const handler = tf.io.fromMemory({
  modelTopology: content.modelTopology,
  weightSpecs: group.weights,
  weightData: floats(bytes),
});
const model = await tf.loadLayersModel(handler);
const volume = tf.tensor(new Float32Array(floats(readFileSync(input))), shape.map(Number));
writeFileSync(output, Buffer.from(model.predict(volume).dataSync().buffer));
