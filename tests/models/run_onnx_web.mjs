// Runs an ONNX file on raw float32 frames, by onnxruntime-web as a browser would.
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';

const [modules, model, input, output, ...shape] = process.argv.slice(2);
const ort = createRequire(modules + '/')('onnxruntime-web');
ort.env.wasm.numThreads = 1;
const session = await ort.InferenceSession.create(new Uint8Array(readFileSync(model)), {
  executionProviders: ['wasm'],
});
// The copy begins at a multiple of four bytes.
const frames = new Float32Array(new Uint8Array(readFileSync(input)).buffer);
const given = new ort.Tensor('float32', frames, shape.map(Number));
const { logits } = await session.run({ input: given });
writeFileSync(output, new Uint8Array(logits.data.slice().buffer));
