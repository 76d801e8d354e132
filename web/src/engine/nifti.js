/**
 * Scans as `mri_convert` reads them: NIfTI-1, NIfTI-2 and MGH, compressed or not.
 *
 * Facts on the formats: nifti1.h and nifti2.h (https://nifti.nimh.nih.gov), and
 * https://surfer.nmr.mgh.harvard.edu/fswiki/FsTutorial/MghFormat.
 */
import { UserError } from './errors.js';
import { affineOf, fromAffine, geometry } from './geometry.js';

const f32 = Math.fround;
const AGAIN = 'fetch or convert the scan again';
// Code: name, and bytes of a value.
const NIFTI_TYPES = {
  2: ['Uint8', 1], 4: ['Int16', 2], 8: ['Int32', 4], 16: ['Float32', 4], 64: ['Float64', 8],
  256: ['Int8', 1], 512: ['Uint16', 2], 768: ['Uint32', 4], 1024: ['BigInt64', 8],
  1280: ['BigUint64', 8],
};
const MGH_TYPES = { 0: ['Uint8', 1], 1: ['Int32', 4], 3: ['Float32', 4], 4: ['Int16', 2], 10: ['Uint16', 2] };
const UNITS = { 0: [1, 'unknown, read as mm'], 1: [1000, 'm'], 2: [1, 'mm'], 3: [0.001, 'um'] };
const HEAD = 1024;
// mm: the shortest and the longest field of view of a head, the finest voxel, and a position in
// which float32 is still exact.
const [SHORTEST, LONGEST, FINEST, FARTHEST] = [30, 800, 0.01, 1e5];
// Scans with more voxels would not fit into a tab beside the network.
const MOST_VOXELS = 2 ** 27;

/**
 * A scan.
 * @typedef {object} Scan
 * @property {string} name
 * @property {Uint8Array | Int16Array | Uint16Array | Int32Array | Float32Array} data
 * @property {import('./geometry.js').Geometry} geometry
 * @property {string[]} warnings
 * @property {Uint8Array | null} raw the header of a NIfTI-1 file, if it may be copied
 * @property {boolean} little byte order of that header
 */

/**
 * Read one volume.
 * @param {{ name: string, data: Blob | ArrayBuffer | Uint8Array }} file
 * @param {number} [shortest] field of view that is accepted, mm
 * @returns {Promise<Scan>}
 */
export async function readScan({ name, data }, shortest = SHORTEST) {
  const fault = (what, advice = AGAIN) => new UserError(`${name}: ${what}; ${advice}`);
  const bytes = await bytesOf(data, fault);
  const head = await bytes(0, HEAD);
  const isMgh = /\.(mgh|mgz|mgh\.gz)$/i.test(name);
  const header = (isMgh ? mghHeader : niftiHeader)(head, fault);
  const { dims, offset, type } = header;
  checkGrid(header.geometry, header.unit, shortest, fault);
  const count = dims[0] * dims[1] * dims[2];
  if (count > MOST_VOXELS) throw fault(...tooLarge(dims));
  const end = offset + count * type[1];
  const content = await bytes(offset, end).catch((error) => {
    throw error instanceof RangeError ? fault(...tooLarge(dims)) : error;
  });
  if (content.length < end - offset) {
    const found = offset + content.length;
    throw fault(`is cut short (${found} bytes where its header needs ${end})`);
  }
  const stored = valuesOf(content, type, header.little);
  const { values, warnings } = asRead(stored, header.slope, header.inter);
  const [low, high] = ends(values);
  if (low === high) {
    throw fault(`every voxel is ${low}, there is no image to segment`);
  }
  return {
    name,
    data: values,
    geometry: header.geometry,
    warnings: [...header.warnings, ...warnings],
    raw: header.raw ? head.slice(0, 348) : null,
    little: header.little,
  };
}

const tooLarge = (dims) => [`has ${dims.join(' x ')} voxels, more than a page can hold`, 'use brainchop-segment'];

/** Lowest and highest value. */
export function ends(values) {
  let [low, high] = [values[0], values[0]];
  for (let i = 1; i < values.length; i++) {
    if (values[i] < low) low = values[i];
    if (values[i] > high) high = values[i];
  }
  return [low, high];
}

/**
 * Return a function that returns the bytes of a file between two places, fewer if it ends before.
 * Of a compressed file no more than those is decompressed, and nothing else is held.
 */
async function bytesOf(data, fault) {
  const file = data instanceof Blob ? data : new Blob([data]);
  const read = async (first, last) => {
    const part = await file.slice(first, last).arrayBuffer().catch(rethrow(fault));
    return new Uint8Array(part);
  };
  if (!file.size) throw fault('is empty (0 bytes)');
  const [one, other] = await read(0, 2);
  return one === 0x1f && other === 0x8b ? (first, last) => inflated(file, first, last, fault) : read;
}

/** A file that was moved or changed since it was chosen, and one with faults in its compression. */
const rethrow = (fault) => (error) => {
  if (error.name === 'NotReadableError' || error.name === 'NotFoundError') {
    throw fault('was changed or moved since it was chosen', 'choose it again');
  }
  throw fault('is damaged or cut short (its compression)');
};

async function inflated(file, first, last, fault) {
  const result = new Uint8Array(last - first);
  const reader = file.stream().pipeThrough(new DecompressionStream('gzip')).getReader();
  let at = 0;
  try {
    while (at < last) {
      const { done, value } = await reader.read();
      if (done) break;
      const part = value.subarray(Math.max(0, first - at), Math.max(0, last - at));
      result.set(part, Math.max(0, at - first));
      at += value.length;
    }
    await reader.cancel();
  } catch (error) {
    rethrow(fault)(error);
  }
  return result.subarray(0, Math.max(0, Math.min(at, last) - first));
}

function niftiHeader(bytes, fault) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const sizes = bytes.length >= 4 ? [view.getInt32(0, true), view.getInt32(0, false)] : [0, 0];
  const little = sizes[0] === 348 || sizes[0] === 540;
  const size = little ? sizes[0] : sizes[1];
  if (size !== 348 && size !== 540) {
    throw fault('is not a NIfTI image', 'give a NIfTI file (.nii, .nii.gz) or an MGH one (.mgz)');
  }
  if (bytes.length < size) throw fault(`is cut short inside its header (${bytes.length} bytes)`);
  const second = size === 540;
  const magic = String.fromCharCode(...bytes.subarray(second ? 4 : 344, (second ? 4 : 344) + 3));
  if (magic !== (second ? 'n+2' : 'n+1')) {
    throw fault('is not a NIfTI image in one file', 'give a NIfTI file (.nii, .nii.gz)');
  }
  const i16 = (at) => view.getInt16(at, little);
  const real = (at) => view.getFloat32(at, little);
  const wide = (at) => Number(view.getBigInt64(at, little));
  const double = (at) => view.getFloat64(at, little);
  const list = (count, get) => Array.from({ length: count }, (_, i) => get(i));
  const raw = second
    ? {
        dim: list(8, (i) => wide(16 + 8 * i)), code: i16(12), bits: i16(14),
        pixdim: list(8, (i) => double(104 + 8 * i)), offset: wide(168), slope: double(176),
        inter: double(184), units: view.getInt32(500, little), qform: view.getInt32(344, little),
        sform: view.getInt32(348, little), quatern: list(6, (i) => double(352 + 8 * i)),
        rows: list(3, (row) => list(4, (i) => double(400 + 32 * row + 8 * i))),
      }
    : {
        dim: list(8, (i) => i16(40 + 2 * i)), code: i16(70), bits: i16(72),
        pixdim: list(8, (i) => real(76 + 4 * i)), offset: real(108), slope: real(112),
        inter: real(116), units: view.getUint8(123), qform: i16(252), sform: i16(254),
        quatern: list(6, (i) => real(256 + 4 * i)),
        rows: list(3, (row) => list(4, (i) => real(280 + 16 * row + 4 * i))),
      };
  const warnings = [];
  if (!(raw.dim[0] >= 1 && raw.dim[0] <= 7)) throw fault(`says it has ${raw.dim[0]} dimensions`, 'give a 3-D image');
  const dims = checkedDims([...raw.dim.slice(1, raw.dim[0] + 1), ...Array(7 - raw.dim[0]).fill(1)], fault);
  const type = NIFTI_TYPES[raw.code];
  if (raw.code === 128 || raw.code === 2304) throw fault('holds colours (RGB)', 'give a grey-scale T1w image');
  if (raw.code === 32 || raw.code === 1792) throw fault('holds complex numbers', 'give the magnitude image');
  if (!type) throw fault(`has data type code ${raw.code}, which is not known`, 'convert it to int16 or float32');
  const least = size + 4;
  let offset = Math.trunc(raw.offset);
  if (!Number.isFinite(raw.offset)) throw fault(`has vox_offset ${raw.offset}`, `correct the header (${least} is usual)`);
  if (offset < least) {
    if (offset) warnings.push(`vox_offset ${offset} is not behind the header; ${least} was used`);
    offset = least;
  }
  let { slope, inter } = raw;
  if (slope === 0 || !Number.isFinite(slope)) [slope, inter] = [1, 0];
  if (!Number.isFinite(inter)) throw fault(`has scl_inter ${inter}`, 'correct the header (0 means no offset)');
  const { grid, mended, unit } = niftiGeometry(raw, dims, warnings, fault);
  return { dims, offset, type, slope, inter, little, geometry: grid, warnings, unit, raw: !second && !mended };
}

function checkedDims(sizes, fault) {
  const shown = sizes.slice(0, Math.max(3, sizes.findLastIndex((n) => n > 1) + 1)).join(' x ');
  const spatial = sizes.slice(0, 3);
  const rest = sizes.slice(3).map((n) => n || 1);
  if (Math.min(...spatial, ...rest) < 1) throw fault(`has dimensions ${shown}`);
  if (Math.min(...spatial) === 1) throw fault(`is a 2-D slice (${shown})`, 'give a 3-D volume');
  const frames = rest.reduce((product, n) => product * n, 1);
  if (frames > 1) throw fault(`has ${frames} frames`, 'give one of them alone');
  return spatial;
}

function niftiGeometry(raw, dims, warnings, fault) {
  const unit = UNITS[raw.units & 7];
  if (!unit) throw fault('has an unknown unit of length', 'correct xyzt_units in the header');
  const sform = raw.sform !== 0 ? [...raw.rows, [0, 0, 0, 1]] : null;
  let broken = null;
  if (sform) {
    try {
      fromAffine(sform, dims);
    } catch (error) {
      broken = error.message;
    }
  }
  let zooms = raw.pixdim.slice(1, 4).map(f32);
  const usable = zooms.map((n) => Number.isFinite(n) && n !== 0);
  const lengths =
    sform && !broken ? [0, 1, 2].map((i) => Math.hypot(sform[0][i], sform[1][i], sform[2][i])) : null;
  const shown = (list) => list.map((n) => `${Number(n.toPrecision(6))}`).join(' x ');
  if (!usable.every(Boolean)) {
    if (!lengths) throw fault(`has voxel sizes (pixdim) ${shown(zooms)}`, 'correct the header');
    const found = zooms;
    zooms = zooms.map((n, i) => (usable[i] ? n : f32(lengths[i])));
    warnings.push(`voxel sizes (pixdim) ${shown(found)} were completed by the sform: ${shown(zooms)}`);
  }
  if (zooms.some((n) => n < 0)) {
    warnings.push(`voxel sizes (pixdim) ${shown(zooms)} were taken without their sign`);
    zooms = zooms.map(Math.abs);
  }
  if (lengths && lengths.some((n, i) => Math.abs(n - zooms[i]) > 1e-3 * zooms[i])) {
    warnings.push(`voxel sizes are ${shown(zooms)} by pixdim and ${shown(lengths)} by the sform; pixdim was used`);
  }
  let [affine, name] = [sform, 'sform'];
  if (!sform || (broken && raw.qform !== 0)) {
    if (raw.qform !== 0) {
      [affine, name] = [qformOf(raw, zooms), 'qform'];
      if (broken) warnings.push(`the sform ${broken}; the qform was used`);
    } else {
      warnings.push('no sform or qform: the orientation is a guess (axes L, A, S)');
      [affine, name] = [[[-1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1]], 'affine'];
    }
  }
  let grid;
  try {
    grid = fromAffine(affine, dims, zooms);
  } catch (error) {
    throw fault(`its ${name} ${error.message}`, 'correct the header');
  }
  const scale = f32(unit[0]);
  const centre = name === 'affine' ? zooms.map((n, i) => f32(f32(n * dims[i]) / 2)) : grid.centre;
  return {
    grid: geometry(dims, zooms.map((n) => f32(n * scale)), grid.cosines, centre.map((n) => f32(n * scale))),
    mended: broken !== null || !usable.every(Boolean),
    unit: unit[1],
  };
}

/** Affine of the quaternion, by the NIfTI-1 standard. */
function qformOf({ quatern, pixdim }, zooms) {
  let [b, c, d] = quatern;
  const square = 1 - (b * b + c * c + d * d);
  let a = Math.sqrt(square);
  if (square < 1e-7) {
    const length = Math.sqrt(b * b + c * c + d * d);
    [a, b, c, d] = [0, b / length, c / length, d / length];
  }
  const turn = [
    [a * a + b * b - c * c - d * d, 2 * (b * c - a * d), 2 * (b * d + a * c)],
    [2 * (b * c + a * d), a * a + c * c - b * b - d * d, 2 * (c * d - a * b)],
    [2 * (b * d - a * c), 2 * (c * d + a * b), a * a + d * d - c * c - b * b],
  ];
  const signs = [1, 1, pixdim[0] < 0 ? -1 : 1];
  const rows = turn.map((row, i) => [...row.map((n, j) => n * signs[j] * zooms[j]), quatern[3 + i]]);
  return [...rows, [0, 0, 0, 1]];
}

function mghHeader(bytes, fault) {
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (bytes.length >= 4 && view.getInt32(0) !== 1) {
    throw fault('is not an MGH image', 'give a FreeSurfer .mgh or .mgz file');
  }
  if (bytes.length < 284) throw fault(`is cut short inside its header (${bytes.length} bytes)`);
  const dims = checkedDims([4, 8, 12, 16].map((at) => view.getInt32(at)), fault);
  const type = MGH_TYPES[view.getInt32(20)];
  if (!type) throw fault(`has data type ${view.getInt32(20)}, which is not known`, 'convert it to NIfTI');
  let grid = geometry(dims, [1, 1, 1], [[-1, 0, 0], [0, 0, 1], [0, -1, 0]], [0, 0, 0]);
  if (view.getInt16(28) === 1) {
    const reals = (at, count) => Array.from({ length: count }, (_, i) => view.getFloat32(at + 4 * i));
    const [zooms, axes, centre] = [reals(30, 3), reals(42, 9), reals(78, 3)];
    const cosines = [0, 1, 2].map((row) => [0, 1, 2].map((axis) => axes[3 * axis + row]));
    grid = geometry(dims, zooms, cosines, centre);
    const lengths = [0, 1, 2].map((i) => Math.hypot(...cosines.map((row) => row[i])));
    if (!lengths.every((n) => Math.abs(n - 1) <= 1e-3)) {
      throw fault(`has directions of lengths ${lengths.join(' x ')}, not 1`, 'correct the header');
    }
    try {
      fromAffine(affineOf(grid), dims);
    } catch (error) {
      throw fault(`its affine ${error.message}`, 'correct it');
    }
  }
  return {
    dims, offset: 284, type, slope: 1, inter: 0, little: false, geometry: grid, warnings: [],
    unit: 'mm', raw: false,
  };
}

/** Check that the grid is one that a head can have. */
function checkGrid({ dims, zooms, centre }, unit, shortest, fault) {
  const advice = 'correct the voxel sizes or their unit in the header';
  if (!zooms.every((n) => Number.isFinite(n) && n > 0)) {
    throw fault(`has voxel sizes ${zooms.join(' x ')} mm`, 'correct the header');
  }
  const lengths = dims.map((n, i) => n * zooms[i]);
  const longest = Math.max(...lengths);
  if (!(longest >= shortest && longest <= LONGEST)) {
    throw fault(
      `has a field of view of ${Number(longest.toPrecision(4))} mm (the unit of the header is ${unit}), ` +
        `${longest > LONGEST ? 'longer' : 'shorter'} than that of any head`,
      advice,
    );
  }
  if (Math.min(...zooms) < FINEST) throw fault(`has voxels of ${zooms.join(' x ')} mm`, advice);
  if (!centre.every((n) => Math.abs(n) <= FARTHEST)) {
    throw fault('lies far away from the origin', 'correct the position in the header');
  }
}

/** Values as they are stored. */
function valuesOf(bytes, [name, size], little) {
  if (!little && size > 1) {
    for (let at = 0; at < bytes.length; at += size) {
      for (let i = 0, j = size - 1; i < j; i++, j--) {
        const kept = bytes[at + i];
        bytes[at + i] = bytes[at + j];
        bytes[at + j] = kept;
      }
    }
  }
  return new globalThis[`${name}Array`](bytes.buffer);
}

/** Scale or convert stored values as FreeSurfer does, in float32 at every step. */
function asRead(stored, slope, inter) {
  const warnings = [];
  const scaled = slope !== 1 || inter !== 0;
  const kept = ['Uint8Array', 'Int16Array', 'Uint16Array', 'Int32Array', 'Float32Array'];
  const kind = stored.constructor.name;
  let values = stored;
  if (scaled) {
    const [factor, term] = [f32(slope), f32(inter)];
    values = new Float32Array(stored.length);
    for (let i = 0; i < values.length; i++) values[i] = f32(f32(f32(Number(stored[i])) * factor) + term);
  } else if (kind === 'Int8Array') {
    values = Int16Array.from(stored);
  } else if (!kept.includes(kind)) {
    values = new Float32Array(stored.length);
    for (let i = 0; i < values.length; i++) values[i] = Number(stored[i]);
  }
  if (!(values instanceof Float32Array)) return { values, warnings };
  // Beyond these the difference of two values exceeds what float32 can hold.
  const [largest, smallest] = [2 ** 126, 2 ** -120];
  const exact = (i) => Number(stored[i]) * slope + inter;
  let [reach, used, large, infinite] = [0, 0, 0, 0];
  for (let i = 0; i < values.length; i++) {
    const size = Math.abs(exact(i));
    if (!(size < Infinity)) infinite++;
    else if (size) {
      used++;
      if (size > reach) reach = size;
      if (size > largest) large++;
    }
  }
  if (infinite) warnings.push(`${infinite} values that are not finite (NaN or infinite) became 0`);
  let shift = 0;
  if (large * 1000 > used || (reach > 0 && reach < smallest)) {
    shift = 10 - (Math.floor(Math.log2(reach)) + 1);
    warnings.push(
      `values reach ${reach.toPrecision(3)}, outside the range of float32; all were multiplied by 2^${shift}`,
    );
  } else if (large) {
    warnings.push(`${large} values beyond ${largest.toPrecision(2)}, too large for float32, became 0`);
  }
  if (shift || large || infinite) {
    const result = new Float32Array(values.length);
    for (let i = 0; i < result.length; i++) {
      const value = shift ? f32(exact(i) * 2 ** shift) : values[i];
      result[i] = Math.abs(value) <= largest ? value : 0;
    }
    values = result;
  }
  return { values, warnings };
}
