// Runs functions of the browser's engine on files: each line of the standard input asks for one
// call, as JSON, and is answered by a line. Arrays are in raw files.
import { createRequire } from 'node:module';
import { readFileSync, writeFileSync } from 'node:fs';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [engine] = process.argv.slice(2);
const load = (name) => import(pathToFileURL(`${engine}/${name}.js`).href);
const runtime = (modules) => modules && { module: createRequire(`${modules}/`)('onnxruntime-web') };

/** The bytes of a file, in a buffer of their own. */
function read(path) {
  const bytes = readFileSync(path);
  return bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.length);
}

const array = ({ path, type }) => new globalThis[`${type}Array`](read(path));
const write = (path, values) =>
  writeFileSync(path, new Uint8Array(values.buffer, values.byteOffset, values.byteLength));
const scanOf = async ({ path, shortest }) => {
  const { readScan } = await load('nifti');
  return readScan({ name: path.split('/').at(-1), data: read(path) }, shortest);
};
const modelOf = (folder) => ({
  manifest: JSON.parse(readFileSync(`${folder}/manifest.json`, 'utf8')),
  weights: read(`${folder}/model.onnx`),
});
const gridOf = async ({ affine, dims }) => (await load('geometry')).fromAffine(affine, dims);

const calls = {
  async read({ scan, out }) {
    const { affineOf } = await load('geometry');
    const found = await scanOf(scan);
    write(out, found.data);
    const { data, geometry, warnings } = found;
    return { type: data.constructor.name, dims: geometry.dims, affine: affineOf(geometry), warnings };
  },
  async copy({ scan, out, labels }) {
    const { writeNiftiGz } = await load('nifti_write');
    const found = await scanOf(scan);
    writeFileSync(out, await writeNiftiGz({ data: found.data, scan: found, labels }));
    writeFileSync(`${out}.anew.nii.gz`, await writeNiftiGz({ data: found.data, scan: { geometry: found.geometry } }));
  },
  async conform({ scan, out }) {
    const { conform } = await load('conform');
    const { affineOf } = await load('geometry');
    const found = conform(await scanOf(scan));
    write(out, found.data);
    return { dims: found.geometry.dims, affine: affineOf(found.geometry), warnings: found.warnings };
  },
  async thinned({ scan, every, out }) {
    const { thinned, thinnedGrid } = await load('preview');
    const { affineOf } = await load('geometry');
    const { data, geometry } = await scanOf(scan);
    write(out, thinned(data, geometry.dims, every));
    const { dims, ...grid } = thinnedGrid(geometry, every);
    return { dims, affine: affineOf({ dims, ...grid }) };
  },
  async prepare({ volume, dims, rule }) {
    const { normalized, parseNormalization } = await load('normalize');
    const { headBox } = await load('headbox');
    const data = array(volume);
    return { table: [...normalized(data, parseNormalization(rule, 'test'))], box: headBox(data, dims) };
  },
  async label({ model, volume, dims, box, table, threads, modules, most, out }) {
    const { label } = await load('network');
    const { labels, engine: name } = await label({
      model: modelOf(model), volume: array(volume), dims, box, table: Float32Array.from(table), threads,
      ort: runtime(modules), most,
    });
    write(out, labels);
    return { engine: name };
  },
  async dropped({ files, volume, dims, box, table, out }) {
    const { readDroppedModel } = await load('dropped');
    const { label } = await load('network');
    const given = files.map((path) => ({ name: path.split('/').at(-1), data: read(path) }));
    const model = readDroppedModel(given);
    const found = await label({
      model, volume: array(volume), dims, box, table: Float32Array.from(table), threads: 1,
    });
    write(out, found.labels);
    return { manifest: model.manifest, warnings: model.warnings };
  },
  async clean({ labels, dims, smooth, components, mask, out }) {
    const { cleanLabels, parseCleanup } = await load('components');
    const { smoothLabels } = await load('smooth');
    const smoothed = smoothLabels(array(labels), dims, smooth);
    const found = cleanLabels(smoothed, dims, parseCleanup(components, 'test'), mask);
    write(out.smooth, smoothed);
    write(out.labels, found.labels);
    write(out.mask, found.mask);
    return found.removed;
  },
  async empty({ labels, volume, dims, out }) {
    const { removeFromVoid } = await load('components');
    const found = array(labels);
    const notes = removeFromVoid(found, array(volume), dims);
    write(out, found);
    return { notes };
  },
  async resample({ labels, source, target, out }) {
    const { labelsToGrid } = await load('resample');
    write(out, labelsToGrid(array(labels), await gridOf(source), await gridOf(target)));
  },
  async localise({ scan, localiser, modules }) {
    const { localise } = await load('localiser');
    const options = { threads: 1, ort: runtime(modules) };
    return (await localise(await scanOf(scan), modelOf(localiser), options)).facts;
  },
  async segment({ scan, model, localiser, threads, cancel, modules, out }) {
    const { segment } = await load('segment');
    const { writeNiftiGz } = await load('nifti_write');
    const given = modelOf(model);
    if (localiser) given.localiser = modelOf(localiser);
    const controller = new AbortController();
    const steps = [];
    const result = await segment({
      scan: { name: scan.path.split('/').at(-1), data: read(scan.path) },
      model: given,
      options: { threads, ort: runtime(modules) },
      onProgress: ({ step, done, total }) => {
        if (steps.at(-1) !== step) steps.push(step);
        if (cancel && step === 'network' && done > 0) controller.abort();
        if (total && done > total) throw new Error(`${step}: ${done} of ${total}`);
      },
      signal: controller.signal,
    });
    writeFileSync(out.labels, await writeNiftiGz({ data: result.labels, scan: result.scan, labels: given.manifest.labels }));
    writeFileSync(out.mask, await writeNiftiGz({ data: result.mask, scan: result.scan, labels: [] }));
    const { seconds, volumes, warnings, flags, provenance } = result;
    const peak = process.resourceUsage().maxRSS / 1000;
    return { seconds, volumes, warnings, flags, provenance, steps, peak };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const { call, ...asked } = JSON.parse(line);
  let answer;
  try {
    answer = { result: (await calls[call](asked)) ?? null };
  } catch (error) {
    const { name, message, stack } = error;
    answer = { error: name, message, stack };
  }
  console.log(JSON.stringify(answer));
}
process.exit(0);
