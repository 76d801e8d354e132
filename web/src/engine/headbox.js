/** The box of the head, outside of which nothing needs to be computed. */
import { histogram } from './normalize.js';

// Voxels below this share of the 99th percentile of non-zero voxels are air.
const AIR = 0.1;
// Smallest share of voxels of a plane that are not air in the head.
const SPECKS = 0.002;

/**
 * Find the box around a head, as `brainchop_bids.image.head.head_box` does.
 * @param {Uint8Array} data a conformed volume
 * @param {number[]} dims
 * @param {number} margin voxels on either side
 * @param {number} multiple that divides the sides of the box
 * @returns {import('./boxes.js').Box}
 */
export function headBox(data, dims, margin = 4, multiple = 8) {
  const air = airOf(histogram(data));
  const counts = dims.map((n) => new Float64Array(n));
  const [X, Y, Z] = dims;
  for (let z = 0, at = 0; z < Z; z++) {
    for (let y = 0; y < Y; y++) {
      let row = 0;
      for (let x = 0; x < X; x++) {
        if (data[at++] > air) {
          row++;
          counts[0][x]++;
        }
      }
      counts[1][y] += row;
      counts[2][z] += row;
    }
  }
  const low = [];
  const high = [];
  for (const [axis, length] of dims.entries()) {
    const least = (SPECKS * data.length) / length;
    let first = counts[axis].findIndex((n) => n > least);
    let last = counts[axis].findLastIndex((n) => n > least);
    if (first < 0) [first, last] = [0, length - 1];
    let start = Math.max(0, first - margin);
    let stop = Math.min(length, last + 1 + margin);
    const rounded = () => Math.ceil((stop - start) / multiple) * multiple;
    stop = Math.min(length, start + rounded());
    start = Math.max(0, stop - rounded());
    low.push(start);
    high.push(stop);
  }
  return { low, high };
}

function airOf(counts) {
  const total = counts.reduce((sum, n) => sum + n, 0) - counts[0];
  if (!total) return 0;
  let sum = 0;
  // The first value whose share is reached, as NumPy's searchsorted from the left.
  return AIR * counts.findIndex((n, value) => value > 0 && (sum += n) >= 0.99 * total);
}
