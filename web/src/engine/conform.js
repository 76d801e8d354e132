/** Conforming of scans as FreeSurfer's `mri_convert -c` does it: grid and intensities. */
import { affineOf, geometry, inverse, matches, part, product } from './geometry.js';
import { Sampler } from './sampling.js';
import { halfUp, toUint8 } from './window.js';

const f32 = Math.fround;
const SIDE = 256;
const LIA = [[-1, 0, 0], [0, 0, 1], [0, -1, 0]];
// mm around an organ that must lie in the field of view; and voxels by multiples of which it moves.
const [AROUND, STEP] = [10, 8];

/**
 * @typedef {object} Conformed
 * @property {Uint8Array} data first axis fastest
 * @property {import('./geometry.js').Geometry} geometry
 * @property {string[]} warnings
 * @property {number[] | null} moved mm by which the field was moved to the organ
 */

/**
 * Conform a scan.
 * @param {import('./nifti.js').Scan} scan
 * @param {import('./geometry.js').Geometry | null} [organ] box around the brain, as a grid: the
 *   result is centred on it where it is out of reach of the usual grid
 * @returns {Conformed}
 */
export function conform(scan, organ = null) {
  const reach = f32(Math.max(...scan.geometry.dims.map((n, i) => f32(n * scan.geometry.zooms[i]))));
  let target = cube(scan.geometry, sideFor(reach));
  let [source, moved] = [scan, null];
  let warnings = [];
  if (target.dims[0] > SIDE) {
    warnings.push(`field of view ${reach} mm needs ${target.dims[0]} voxels a side, not ${SIDE}`);
  }
  const around = organ && gridAround(organ, scan.geometry, reach, target);
  if (around) {
    moved = around.centre.map((n, i) => Math.round((n - scan.geometry.centre[i]) * 1000) / 1000);
    warnings = [
      `the conformed field of view is centred on what was located, ${moved.join(', ')} mm from the ` +
        "scan's centre",
    ];
    target = around;
    source = partIn(scan, target);
  }
  let values = source.data;
  if (!(values instanceof Uint8Array)) {
    const { scaled, notes } = toUint8(values, scan.name);
    values = scaled;
    warnings.push(...notes);
  }
  if (!matches(target, source.geometry)) values = reslice(values, source.geometry, target);
  else if (values === scan.data) values = values.slice();
  return { data: values, geometry: target, warnings, moved };
}

function sideFor(reach) {
  const side = Math.max(SIDE, Math.ceil(reach));
  return (side - SIDE) / SIDE < 0.1 ? SIDE : side;
}

const cube = ({ centre }, side) => geometry([side, side, side], [1, 1, 1], LIA, centre);

/** The grid around an organ that is out of reach of the usual one, else null. */
function gridAround(organ, source, reach, usual) {
  const field = cube(source, sideFor(Math.min(reach, SIDE)));
  const onto = product(inverse(affineOf(field)), affineOf(organ));
  const middle = [0, 1, 2].map(
    (row) => organ.dims.reduce((sum, n, i) => sum + (onto[row][i] * (n - 1)) / 2, 0) + onto[row][3],
  );
  const half = [0, 1, 2].map((row) =>
    Math.sqrt(organ.dims.reduce((sum, n, i) => sum + ((onto[row][i] * n) / 2) ** 2, 0)),
  );
  const held = middle.every((n, i) => {
    const wide = half[i] + AROUND + 0.5;
    return n - wide >= -1 && n + wide <= field.dims[i];
  });
  if (reach <= field.dims[0] + 0.5 && held) return null;
  // Halves to even, as NumPy rounds.
  const even = (n) => (Math.abs(n % 1) === 0.5 ? 2 * Math.round(n / 2) : Math.round(n));
  const steps = middle.map((n, i) => even((n - (field.dims[i] - 1) / 2) / STEP) * STEP);
  const affine = affineOf(field);
  const centre = field.centre.map((n, row) => n + steps.reduce((sum, s, i) => sum + affine[row][i] * s, 0));
  const around = geometry(field.dims, field.zooms, field.cosines, centre);
  return matches(around, usual) ? null : around;
}

/** The part of a scan that lies in a field of view. */
function partIn(scan, field) {
  const onto = inverse(affineOf(scan.geometry));
  const affine = product(onto, affineOf(field));
  const { dims } = scan.geometry;
  const corners = [...Array(8).keys()].map((n) =>
    [0, 1, 2].map((row) =>
      [0, 1, 2].reduce(
        (sum, i) => sum + affine[row][i] * ((n >> i) & 1 ? field.dims[i] - 0.5 : -0.5),
        affine[row][3],
      ),
    ),
  );
  const clip = (n, low, high) => Math.min(high, Math.max(low, n));
  const first = dims.map((n, i) => clip(Math.floor(Math.min(...corners.map((c) => c[i]))) - 1, 0, n - 1));
  const last = dims.map((n, i) => clip(Math.ceil(Math.max(...corners.map((c) => c[i]))) + 1, first[i], n - 1));
  if (first.every((n) => !n) && last.every((n, i) => n === dims[i] - 1)) return scan;
  const shape = last.map((n, i) => n - first[i] + 1);
  const data = new scan.data.constructor(shape[0] * shape[1] * shape[2]);
  let to = 0;
  for (let z = first[2]; z <= last[2]; z++) {
    for (let y = first[1]; y <= last[1]; y++, to += shape[0]) {
      const from = (z * dims[1] + y) * dims[0] + first[0];
      data.set(scan.data.subarray(from, from + shape[0]), to);
    }
  }
  return { ...scan, data, geometry: part(scan.geometry, first, shape) };
}

function reslice(values, source, target) {
  const sampler = new Sampler(voxelToVoxel(source, target), source.dims, target.dims, true);
  const result = new Uint8Array(target.dims[0] * target.dims[1] * target.dims[2]);
  if (sampler.separable) separable(values, sampler, result);
  else {
    const flat = sampler.pad(values);
    const [slow, middle] = sampler.strides;
    sampler.each((to, first, last, slows, middles, fasts, start) => {
      for (let i = first; i < last; i++) {
        const [fa, fb, fc] = [Math.floor(slows[i]), Math.floor(middles[i]), Math.floor(fasts[i])];
        const [a, b, c] = [slows[i] - fa, middles[i] - fb, fasts[i] - fc];
        const at = start + fa * slow + fb * middle + fc;
        const one = flat[at] + (flat[at + 1] - flat[at]) * c;
        const other = flat[at + middle] + (flat[at + middle + 1] - flat[at + middle]) * c;
        const near = one + (other - one) * b;
        const above = at + slow;
        const third = flat[above] + (flat[above + 1] - flat[above]) * c;
        const fourth = flat[above + middle] + (flat[above + middle + 1] - flat[above + middle]) * c;
        const far = third + (fourth - third) * b;
        result[to + i] = halfUp(f32(near + (far - near) * a));
      }
    });
  }
  return result;
}

/** Neighbours and weights along one axis of parallel grids. */
function line(sampler, number) {
  const row = sampler.rows[number];
  const count = sampler.target[2 - number];
  const n = sampler.size[number];
  const found = { first: count, lower: [], upper: [], low: [], high: [] };
  for (let i = 0; i < count; i++) {
    const where = f32(f32(row[2 - number] * i) + row[3]);
    if (!(where > -1 && where < n)) continue;
    found.first = Math.min(found.first, i);
    const floor = Math.floor(where);
    const rest = where - floor;
    found.lower.push(Math.max(floor, 0));
    found.upper.push(Math.min(floor + 1, n - 1));
    found.low.push(floor >= 0 ? 1 - rest : 0);
    found.high.push(floor + 1 < n ? rest : 0);
  }
  return found;
}

function separable(values, sampler, result) {
  const [slow, rows, columns] = [0, 1, 2].map((i) => line(sampler, i));
  const [, height, width] = sampler.size;
  const [stepA, stepB, stepC] = sampler.given;
  const [X, Y] = sampler.target;
  const plane = new Float64Array(height * width);
  const middle = new Float64Array(width);
  for (let k = 0; k < slow.lower.length; k++) {
    const [lower, upper] = [slow.lower[k] * stepA, slow.upper[k] * stepA];
    const [low, high] = [slow.low[k], slow.high[k]];
    for (let b = 0, at = 0; b < height; b++) {
      for (let c = 0, from = b * stepB; c < width; c++, from += stepC) {
        plane[at++] = values[lower + from] * low + values[upper + from] * high;
      }
    }
    for (let j = 0; j < rows.lower.length; j++) {
      const [one, other] = [rows.lower[j] * width, rows.upper[j] * width];
      for (let c = 0; c < width; c++) {
        middle[c] = plane[one + c] * rows.low[j] + plane[other + c] * rows.high[j];
      }
      let to = ((k + slow.first) * Y + j + rows.first) * X + columns.first;
      for (let i = 0; i < columns.lower.length; i++) {
        const value = middle[columns.lower[i]] * columns.low[i] + middle[columns.upper[i]] * columns.high[i];
        result[to++] = halfUp(f32(value));
      }
    }
  }
}

/** Matrix from target to source voxels, in float32 and rounded as in FreeSurfer. */
function voxelToVoxel(source, target) {
  const rounded = (grid) => affineOf(grid).map((row) => row.map(f32));
  const [from, onto] = [inverse32(rounded(source)), rounded(target)];
  return from.map((row) =>
    [0, 1, 2, 3].map((j) => row.slice(1).reduce((sum, n, i) => f32(sum + f32(n * onto[i + 1][j])), f32(row[0] * onto[0][j]))),
  );
}

/**
 * Invert by cofactors times the reciprocal of the determinant, all in float32. This is the form of
 * VNL's inverse, which FreeSurfer calls; the last bit decides ties.
 */
function inverse32(matrix) {
  const others = (skipped) => [0, 1, 2, 3].filter((n) => n !== skipped);
  const adjugate = [0, 1, 2, 3].map((i) =>
    [0, 1, 2, 3].map((j) => {
      const [x, y, z] = others(i);
      const rows = others(j);
      let total = 0;
      for (const [a, b, c, swap] of [[0, 1, 2, 1], [1, 0, 2, -1], [2, 0, 1, 1]]) {
        const [first, second, third] = [a, b, c].map((n) => matrix[rows[n]]);
        const lead = ((i + j) % 2 ? -1 : 1) * swap * first[x];
        total = f32(total + f32(f32(lead * second[y]) * third[z]));
        total = f32(total - f32(f32(lead * second[z]) * third[y]));
      }
      return total;
    }),
  );
  let whole = 0;
  const permute = (chosen) => {
    if (chosen.length === 4) {
      const swaps = chosen.flatMap((a, n) => chosen.slice(n + 1).filter((b) => a > b)).length;
      const term = chosen.reduce((value, row, column) => f32(value * matrix[row][column]), swaps % 2 ? -1 : 1);
      whole = f32(whole + term);
      return;
    }
    for (const n of [0, 1, 2, 3]) if (!chosen.includes(n)) permute([...chosen, n]);
  };
  permute([]);
  const factor = f32(1 / whole);
  return adjugate.map((row) => row.map((n) => f32(n * factor)));
}
