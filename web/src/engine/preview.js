/** Scans as a page shows them. */
import { affineOf, fromAffine } from './geometry.js';
import { readScan } from './nifti.js';

// Viewers hold a scan as textures of 4 bytes a voxel, several times; a tab has 2 GB for all.
const MOST_VOXELS = 42e6;
const MOST_BYTES = 100e6;

/**
 * Read a scan to be shown: large ones are thinned.
 * @param {{ scan: { name: string, data: Blob | ArrayBuffer } }} given
 * @returns the scan as `readScan` reads it without `data`; `shown`, the values to show, first axis
 *   fastest; and `every`: along each axis they are every first, second or third of the scan's
 */
export async function preview({ scan: file }) {
  const { data, ...scan } = await readScan(file);
  let every = 1;
  const share = () => every ** -3;
  while (data.length * share() > MOST_VOXELS || data.byteLength * share() > MOST_BYTES) every++;
  return { ...scan, shown: thinned(data, scan.geometry.dims, every), every };
}

/** Every second voxel along each axis, if `every` is 2, and so on. */
export function thinned(values, dims, every) {
  if (every === 1) return values;
  const [nx, ny, nz] = thinnedDims(dims, every);
  const result = new values.constructor(nx * ny * nz);
  for (let z = 0, to = 0; z < nz; z++) {
    for (let y = 0; y < ny; y++) {
      const from = (z * dims[1] + y) * every * dims[0];
      for (let x = 0; x < nx; x++) result[to++] = values[from + x * every];
    }
  }
  return result;
}

const thinnedDims = (dims, every) => dims.map((n) => Math.ceil(n / every));

/** The grid of thinned values. @returns {import('./geometry.js').Geometry} */
export function thinnedGrid(grid, every) {
  const affine = affineOf(grid).map((row) => row.map((n, axis) => (axis < 3 ? n * every : n)));
  return fromAffine(affine, thinnedDims(grid.dims, every));
}
