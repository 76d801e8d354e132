/** The first steps, from a file to a conformed volume. */
import { conform } from './conform.js';
import { localise } from './localiser.js';
import { readScan } from './nifti.js';
import { stepper } from './progress.js';
import { emptyVoxels } from './resample.js';

/**
 * Read a scan, find the brain in it, and conform it.
 * @param {object} given
 * @param {{ name: string, data: Blob | ArrayBuffer }} given.scan
 * @param {{ manifest: any, weights: ArrayBuffer } | null} given.localiser
 * @param {number} given.threads
 * @param {any} [given.ort] see `ort.js`
 * @param {(progress: { step: string, done: number, total: number }) => void} given.onProgress
 * @param {AbortSignal} [given.signal]
 */
export async function prepare({ scan: file, localiser, threads, ort, onProgress, signal }) {
  const { step, seconds } = stepper(onProgress, signal);
  const { data, geometry, raw, little, warnings } = await step('read', () => readScan(file));
  const notes = [];
  let found = null;
  if (localiser) {
    try {
      found = await step('localise', () => localise({ data, geometry }, localiser, { threads, ort }));
    } catch (error) {
      if (error.name === 'AbortError') throw error;
      notes.push(`the brain was not sought first: ${error.message}`);
    }
  }
  const scan = { name: file.name, data, geometry };
  const conformed = await step('conform', () => conform(scan, found?.region ?? null));
  return {
    geometry,
    raw,
    little,
    empty: emptyVoxels(data),
    volume: conformed.data,
    grid: conformed.geometry,
    moved: conformed.moved,
    found,
    warnings: [...warnings, ...notes, ...conformed.warnings],
    seconds,
  };
}
