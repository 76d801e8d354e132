/**
 * Boxes in volumes whose first axis is fastest.
 * @typedef {{ low: number[], high: number[] }} Box `high` is the first voxel behind it
 */

/**
 * The smallest box with all voxels for which `rows` tells first and last, null if there are none.
 * @param {ArrayLike<number>} data
 * @param {number[]} dims
 * @param {(value: number) => boolean | number} [chosen] by default those that are not 0
 * @returns {Box | null}
 */
export function boundingBox(data, [X, Y, Z], chosen) {
  const low = [X, Y, Z];
  const high = [0, 0, 0];
  const is = chosen ?? ((value) => value !== 0);
  for (let z = 0, at = 0; z < Z; z++) {
    for (let y = 0; y < Y; y++, at += X) {
      let first = 0;
      while (first < X && !is(data[at + first])) first++;
      if (first === X) continue;
      let last = X - 1;
      while (!is(data[at + last])) last--;
      low[0] = Math.min(low[0], first);
      high[0] = Math.max(high[0], last + 1);
      low[1] = Math.min(low[1], y);
      high[1] = Math.max(high[1], y + 1);
      low[2] = Math.min(low[2], z);
      high[2] = z + 1;
    }
  }
  return high[0] ? { low, high } : null;
}

/** @param {Box} box */
export const sidesOf = ({ low, high }) => high.map((n, axis) => n - low[axis]);

/** A box that is larger by some voxels on all sides, as far as the volume goes. */
export function grown({ low, high }, by, dims) {
  return {
    low: low.map((n) => Math.max(0, n - by)),
    high: high.map((n, axis) => Math.min(dims[axis], n + by)),
  };
}

/**
 * Copy a box of a volume, with a border of zeros around it.
 * @template {Uint8Array | Uint16Array} T
 * @param {T} data
 * @param {number[]} dims
 * @param {Box} box
 * @param {number} [border]
 * @returns {T}
 */
export function cropped(data, dims, { low, high }, border = 0) {
  const sides = sidesOf({ low, high });
  const [X, Y, Z] = sides.map((n) => n + 2 * border);
  const result = new data.constructor(X * Y * Z);
  for (let z = 0; z < sides[2]; z++) {
    for (let y = 0; y < sides[1]; y++) {
      const from = ((z + low[2]) * dims[1] + y + low[1]) * dims[0] + low[0];
      const to = ((z + border) * Y + y + border) * X + border;
      result.set(data.subarray(from, from + sides[0]), to);
    }
  }
  return result;
}

/** Write a box of a volume from what `cropped` returns. */
export function pasted(result, dims, { low, high }, data, border = 0) {
  const sides = sidesOf({ low, high });
  const [X, Y] = sides.map((n) => n + 2 * border);
  for (let z = 0; z < sides[2]; z++) {
    for (let y = 0; y < sides[1]; y++) {
      const to = ((z + low[2]) * dims[1] + y + low[1]) * dims[0] + low[0];
      const from = ((z + border) * Y + y + border) * X + border;
      result.set(data.subarray(from, from + sides[0]), to);
    }
  }
  return result;
}

/**
 * Labels of a whole volume, of those in a box; 0 outside of it.
 * @param {Uint8Array | Uint16Array | Uint32Array} found
 * @param {number} classes
 * @param {number[]} dims
 * @param {Box} box
 */
export function spread(found, classes, dims, { low, high }) {
  const labels = new (classes <= 256 ? Uint8Array : Uint16Array)(dims[0] * dims[1] * dims[2]);
  const width = high[0] - low[0];
  let from = 0;
  for (let z = low[2]; z < high[2]; z++) {
    for (let y = low[1]; y < high[1]; y++, from += width) {
      labels.set(found.subarray(from, from + width), (z * dims[1] + y) * dims[0] + low[0]);
    }
  }
  return labels;
}
