/** Segmentation of one scan: conforming, network, clean-up, and labels on the scan's own grid. */
import { runApart } from './apart.js';
import { brainMask, cleanLabels, parseCleanup, removeFromVoid } from './components.js';
import { canShare } from './chain.js';
import { UserError } from './errors.js';
import { affineOf } from './geometry.js';
import { headBox } from './headbox.js';
import { restrict } from './localiser.js';
import { label } from './network.js';
import { normalized, parseNormalization } from './normalize.js';
import { prepare } from './prepare.js';
import { secondsSince, stepper } from './progress.js';
import { labelsToGrid, withoutEmpty } from './resample.js';
import { smoothLabels } from './smooth.js';
import { volumesOf } from './volumes.js';
import { features } from './wasm.js';

// L; brains of healthy people are between.
const [SMALLEST, LARGEST] = [0.7, 2.1];

/**
 * Segment one scan. `README.md` describes parameters and result.
 * @param {object} given
 * @param {{ name: string, data: Blob | ArrayBuffer }} given.scan
 * @param {{ manifest: any, weights: any, localiser?: { manifest: any, weights: any } }} given.model
 * @param {{ fast?: boolean, threads?: number, gpu?: any, ort?: any }} [given.options]
 * @param {(progress: { step: string, done: number, total: number }) => void} [given.onProgress]
 * @param {AbortSignal} [given.signal]
 */
export async function segment({ scan: file, model, options = {}, onProgress = () => {}, signal }) {
  const { manifest } = model;
  const name = manifest.name ?? 'the model';
  checkManifest(manifest, name);
  const rule = parseCleanup(manifest.components ?? 'largest', name);
  const normalization = parseNormalization(manifest.normalization ?? 'minmax', name);
  const threads = Math.max(1, Math.min(options.threads ?? defaultThreads(), 16));
  const began = performance.now();
  const { step, seconds } = stepper(onProgress, signal);

  const localiser = options.fast ? null : (model.localiser ?? null);
  const given = { scan: file, localiser, threads, ort: options.ort };
  const scan = await runApart(prepare, startPrepare, given, onProgress, signal);
  Object.assign(seconds, scan.seconds);
  const { volume, grid, found } = scan;
  const box = headBox(volume, grid.dims);
  const network = {
    model: { manifest, weights: model.weights },
    volume, dims: grid.dims, box, table: normalized(volume, normalization), threads,
    ort: options.ort, gpu: options.gpu,
  };
  const { labels: raw, engine, warnings: ofNetwork = [] } = await step('network', (tell) =>
    runApart(label, startNetwork, network, tell, signal),
  );
  const cleaned = await step('components', () => {
    const labels = smoothLabels(raw, grid.dims, manifest.smooth ?? {});
    const notes = removeFromVoid(labels, volume, grid.dims);
    const near = found ? restrict(labels, grid, found) : null;
    const result = cleanLabels(labels, grid.dims, rule, manifest.mask ?? null);
    const intracranial = manifest.intracranial
      ? brainMask(result.labels, grid.dims, { ...manifest.mask, exclude: [] }).reduce((sum, n) => sum + n, 0) / 1000
      : null;
    return { ...result, notes, near, intracranial };
  });
  const covers = manifest.mask !== null;
  const final = await step('resample', () => {
    const labels = withoutEmpty(labelsToGrid(cleaned.labels, grid, scan.geometry), scan.empty);
    const mask = covers ? labelsToGrid(cleaned.mask, grid, scan.geometry) : null;
    return { labels, mask };
  });
  seconds.total = secondsSince(began);
  const warnings = [...scan.warnings, ...ofNetwork, ...cleaned.notes];
  if (!cleaned.labels.some(Boolean)) warnings.push('no voxel was labelled; is it a T1w of a whole head?');
  const volumes = volumesOf(final.labels, scan.geometry, manifest.labels);
  return {
    labels: final.labels,
    mask: final.mask,
    labelsConformed: cleaned.labels,
    maskConformed: covers ? cleaned.mask : null,
    conformed: volume,
    header: described(scan.geometry),
    grid: { ...described(grid), geometry: grid },
    scan: { geometry: scan.geometry, raw: scan.raw, little: scan.little },
    volumes,
    warnings,
    flags: flagsOf(manifest, volumes, covers ? cleaned.mask : null, found),
    provenance: {
      version: manifest.version ?? null,
      engine,
      device: engine.endsWith('WebGPU') ? 'gpu' : 'cpu',
      threads: canShare() ? threads : 1,
      fused: features.fused,
      scan: file.name,
      model: { name, sha256: manifest.sha256 ?? null, status: manifest.status ?? null },
      normalization: manifest.normalization ?? 'minmax',
      components: {
        rule: manifest.components ?? 'largest',
        removed_components: cleaned.removed.components,
        removed_voxels: cleaned.removed.voxels,
      },
      smoothing: manifest.smooth ?? null,
      mask: manifest.mask ?? null,
      box: box.low.map((n, axis) => [n, box.high[axis]]),
      ...(found && { localisation: { ...found.facts, ...cleaned.near, FieldMovedMM: scan.moved } }),
      ...(cleaned.intracranial !== null && { intracranial_mL: cleaned.intracranial }),
      warnings,
      seconds,
    },
    seconds,
  };
}

const startNetwork = () => new Worker(new URL('./network_worker.js', import.meta.url), { type: 'module' });
const startPrepare = () => new Worker(new URL('./prepare_worker.js', import.meta.url), { type: 'module' });

function defaultThreads() {
  return globalThis.navigator?.hardwareConcurrency ?? 2;
}

function checkManifest({ labels, task, in_channels: channels = 1 }, name) {
  const right =
    Array.isArray(labels) && labels.length > 1 && labels.every((one, i) => one?.index === i && one.name);
  if (!right) throw new UserError(`${name}: its manifest has no list of labels; write it again`);
  if (task === 'localise') throw new UserError(`${name}: is a localiser, which labels no voxels`);
  if (channels !== 1) throw new UserError(`${name}: takes ${channels} scans, a page gives one`);
}

/** A grid as plain numbers. */
function described(grid) {
  return { dims: grid.dims, zooms: [...grid.zooms], affine: affineOf(grid).flat() };
}

/** Reasons to look at the result. */
function flagsOf({ labels, status, name }, volumes, mask, found) {
  const flags = [];
  const litres = mask ? mask.reduce((sum, n) => sum + n, 0) / 1e6 : null;
  if (litres !== null && (litres < SMALLEST || litres > LARGEST)) {
    flags.push(`the brain mask has ${litres.toFixed(2)} L, expected ${SMALLEST} to ${LARGEST} L`);
  }
  const missing = volumes.filter(({ voxels }) => !voxels).map((one) => one.name);
  if (missing.length && missing.length < labels.length - 1) flags.push(`not found: ${missing.join(', ')}`);
  if (found?.disagrees) flags.push(found.disagrees);
  if (status) flags.push(`the model ${name} is ${status}: look at the labels before you use them`);
  return flags;
}
