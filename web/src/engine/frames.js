/** Frames of a volume, shrunk to the few pixels that a localiser sees. */

const f32 = Math.fround;
/** Pixels of a frame along each axis. */
export const SIDE = 64;
const SAMPLES = 4;
const SPACING = 2;

/** Round halves to even, as Python does. */
export const round = (n) => (Math.abs(n % 1) === 0.5 ? 2 * Math.round(n / 2) : Math.round(n));

/** Voxels that are used along an axis, and for each of them pixels and weights. */
function weightsAlong(length, size, pixel) {
  const step = Math.max(1, Math.trunc(pixel / size / SAMPLES));
  const voxels = [];
  for (let used = Math.floor((step - 1) / 2); used < length; used += step) {
    const middle = ((used - (length - 1) / 2) * size) / pixel + SIDE / 2;
    const half = (size * step) / pixel / 2;
    const parts = [];
    for (let p = Math.max(0, Math.floor(middle - half)); p < Math.min(SIDE, middle + half); p++) {
      const overlap = Math.min(middle + half, p + 1) - Math.max(middle - half, p);
      if (overlap > 0) parts.push([p, f32(overlap)]);
    }
    voxels.push([used, parts]);
  }
  return voxels;
}

/** Shrink all frames along an axis to 64 x 64 pixels. */
export function shrink(data, dims, zooms, axis, others, pixel) {
  const steps = [1, dims[0], dims[0] * dims[1]];
  const [rows, columns] = others.map((n) => weightsAlong(dims[n], zooms[n], pixel));
  const flat = columns.flatMap(([used, parts]) => parts.map(([p, weight]) => [used * steps[others[1]], p, weight]));
  const [places, pixels, weights] = [0, 1, 2].map((i) => Float64Array.from(flat, (one) => one[i]));
  const images = new Float32Array(dims[axis] * SIDE * SIDE);
  const line = new Float64Array(SIDE);
  for (let frame = 0; frame < dims[axis]; frame++) {
    for (const [used, parts] of rows) {
      const from = frame * steps[axis] + used * steps[others[0]];
      line.fill(0);
      for (let i = 0; i < places.length; i++) line[pixels[i]] += data[from + places[i]] * weights[i];
      for (const [p, weight] of parts) {
        const to = (frame * SIDE + p) * SIDE;
        for (let i = 0; i < SIDE; i++) images[to + i] += line[i] * weight;
      }
    }
  }
  return images;
}

/** Average frames that are closer than 2 mm. */
export function spaced(images, zoom) {
  const pixels = SIDE * SIDE;
  const count = images.length / pixels;
  const fewer = Math.max(1, round((count * zoom) / SPACING));
  if (fewer >= count) return images;
  const result = new Float32Array(fewer * pixels);
  linearWeights(count, zoom, fewer, (count * zoom) / fewer).forEach((parts, to) => {
    for (const [from, weight] of parts) {
      for (let i = 0; i < pixels; i++) result[to * pixels + i] += images[from * pixels + i] * weight;
    }
  });
  return result;
}

/** Turn each frame by 180 degrees. */
export function turnedFrames(images) {
  const pixels = SIDE * SIDE;
  const turned = images.slice();
  for (let start = 0; start < turned.length; start += pixels) turned.subarray(start, start + pixels).reverse();
  return turned;
}

/** Normalise frames together, in place. */
export function scale(images, { kind, low, high, clip }) {
  const sorted = images.slice().sort();
  const at = (q) => {
    const place = q * (sorted.length - 1);
    const lower = Math.floor(place);
    const [a, b] = [sorted[lower], sorted[Math.min(lower + 1, sorted.length - 1)]];
    return a + (b - a) * (place - lower);
  };
  const [first, last] =
    kind === 'quantile' ? [at(low), at(high)] : [sorted[0], sorted[sorted.length - 1]];
  const [shift, span] = [f32(first), f32(last - first)];
  for (let i = 0; i < images.length; i++) {
    let value = f32(images[i] - shift);
    if (span > 0) value = f32(value / span);
    images[i] = clip ? Math.min(1, Math.max(0, value)) : value;
  }
}

/** Weights of linear interpolation between two centred grids; means if the cells are larger. */
export function linearWeights(count, size, cells, cell) {
  const wide = Math.max(size, cell);
  return Array.from({ length: cells }, (_, t) => {
    const place = (t + 0.5 - cells / 2) * cell;
    const all = Array.from({ length: count }, (_, s) => [s, 1 - Math.abs(place - (s + 0.5 - count / 2) * size) / wide]);
    const parts = all.filter(([, weight]) => weight > 0);
    const sum = parts.reduce((total, [, weight]) => total + weight, 0);
    return parts.map(([s, weight]) => [s, weight / sum]);
  });
}
