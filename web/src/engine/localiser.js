/**
 * Where a scan has the brain, by frames along its three axes, as
 * `brainchop_bids.inference.localise` finds it.
 */
import { boundingBox, cropped, grown, pasted, sidesOf } from './boxes.js';
import { within } from './distance.js';
import { linearWeights, round, scale, shrink, SIDE, spaced, turnedFrames } from './frames.js';
import { affineOf, fromAffine, inverse, orientation, product, voxelVolume } from './geometry.js';
import { parseNormalization } from './normalize.js';
import { loadOrt, openSession } from './ort.js';
import { Components } from './runs.js';

const f32 = Math.fround;
const BATCH = 64;
const [MARGIN, LOOKS, AROUND, CLOSER, LEAST_PIXELS] = [9, 3, 0.2, 0.8, 4];
const [CELLS, LIKELY, OPENING, TIP, ZONE, LEAST] = [96, 0.45, 2, 0.005, 10, 2000];
const [LEAST_CERTAINTY, SURE, LEAST_SHARE] = [0.25, 0.5, 0.01];
const [MARGIN_MM, DEPTH, ACROSS, BELOW] = [13, 2, 10, 33];

const DIRECTIONS = [['R'], ['A', 'P'], ['S', 'I']];
const VIEWS = [[0, 1], [0, 2], [1, 0], [1, 2], [2, 0], [2, 1]].flatMap(([a, b]) =>
  DIRECTIONS[a].flatMap((first) => DIRECTIONS[b].map((second) => first + second)),
);
const ORIENTATIONS = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]].flatMap((order) =>
  DIRECTIONS[order[0]].flatMap((x) =>
    DIRECTIONS[order[1]].flatMap((y) => DIRECTIONS[order[2]].map((z) => [x, y, z])),
  ),
);

/**
 * Find the brain.
 * @param {import('./nifti.js').Scan} scan
 * @param {{ manifest: any, weights: ArrayBuffer }} localiser
 * @param {{ threads: number, ort?: any }} options
 */
export async function localise(scan, { manifest, weights }, { threads, ort: settings }) {
  const ort = await loadOrt(settings, threads);
  const session = await openSession(ort, weights, manifest.name);
  const rule = parseNormalization(manifest.normalization, manifest.name);
  const classes = manifest.labels.length;
  const { dims, zooms } = scan.geometry;
  const look = (data, sides) => lookAt(data, sides, zooms, { ort, session, rule, classes });
  let found;
  try {
    found = await look(scan.data, dims);
    let longest = Math.max(...dims.map((n, i) => n * zooms[i]));
    for (let i = 1; i < LOOKS && found.sector; i++) {
      const reach = AROUND * Math.max(...sidesIn(found.sector.box, zooms));
      const near = widened(found.sector.box, reach, dims, zooms);
      if (Math.max(...sidesIn(near, zooms)) > CLOSER * longest) break;
      const closer = await look(cropped(scan.data, dims, near), sidesOf(near));
      if (!closer.sector) break;
      const { box } = closer.sector;
      closer.sector.box = {
        low: box.low.map((n, axis) => n + near.low[axis]),
        high: box.high.map((n, axis) => n + near.low[axis]),
      };
      found = closer;
      longest = Math.max(...sidesIn(near, zooms));
    }
  } finally {
    await session.release();
  }
  return described(scan.geometry, manifest, found);
}

/** What was found, and what follows from it. */
function described(grid, manifest, { sector, views }) {
  const header = orientation(grid).map((code) => (code === 'L' ? 'R' : code));
  const told = sector && views.some((row) => row.some((n) => n > 0)) ? findOrientation(views) : null;
  const box = sector && widened(sector.box, MARGIN, grid.dims, grid.zooms);
  let region = null;
  if (box && sector.certainty >= LEAST_CERTAINTY) {
    const affine = affineOf(grid);
    affine.slice(0, 3).forEach((row) => (row[3] += box.low.reduce((sum, n, i) => sum + row[i] * n, 0)));
    region = fromAffine(affine, sidesOf(box));
  }
  const wrong = told && told.codes.join('') !== header.join('') && told.certainty >= SURE;
  const rounded = (n) => Math.round(n * 1000) / 1000;
  return {
    region,
    codes: wrong ? told.codes : header,
    disagrees: wrong
      ? `the header says that axes advance to ${header.join('')}; what is seen agrees with ` +
        `${told.codes.join('')} (certainty ${told.certainty.toFixed(2)}; R is left or right)`
      : null,
    facts: {
      Localiser: { Name: manifest.name, SHA256: manifest.sha256 ?? null },
      Found: Boolean(box),
      ...(box && {
        BoxVoxels: box.low.map((n, axis) => [n, box.high[axis] - 1]),
        Certainty: rounded(sector.certainty),
      }),
      ...(told && {
        Orientation: { Seen: told.codes.join(''), Header: header.join(''), Certainty: rounded(told.certainty) },
      }),
    },
  };
}

const sidesIn = (box, zooms) => sidesOf(box).map((n, axis) => n * zooms[axis]);

/** A box with a margin in mm, as far as the volume goes. */
function widened({ low, high }, margin, dims, zooms) {
  const more = zooms.map((zoom) => round(margin / zoom));
  return {
    low: low.map((n, axis) => Math.max(0, n - more[axis])),
    high: high.map((n, axis) => Math.min(dims[axis], n + more[axis])),
  };
}

/** The sector without margin, and how often each view is seen along each axis. */
async function lookAt(data, dims, zooms, network) {
  const passes = [];
  const views = [0, 1, 2].map(() => new Float64Array(VIEWS.length));
  for (let axis = 0; axis < 3; axis++) {
    const others = [0, 1, 2].filter((n) => n !== axis);
    const sides = others.map((n) => dims[n] * zooms[n]);
    if ((Math.min(...sides) * SIDE) / Math.max(...sides) < LEAST_PIXELS) continue;
    const pixel = Math.max(...sides) / SIDE;
    const images = spaced(shrink(data, dims, zooms, axis, others, pixel), zooms[axis]);
    scale(images, network.rule);
    const { organ, votes } = await seen(images, network);
    if (network.classes > 2) {
      views[axis] = votes;
      // A network of all views knows frames that are turned by 180 degrees as well.
      const turned = turnedFrames((await seen(turnedFrames(images), network)).organ);
      for (let i = 0; i < organ.length; i++) organ[i] = f32((organ[i] + turned[i]) / 2);
    }
    passes.push({ axis, others, pixel, organ, count: images.length / SIDE ** 2 });
  }
  return { sector: findSector(passes, dims, zooms), views };
}

/** The probability of the organ in each pixel of normalised frames, and of views where it is likely. */
async function seen(images, { ort, session, classes }) {
  const organ = new Float32Array(images.length);
  const votes = new Float64Array(VIEWS.length);
  const count = SIDE * SIDE;
  const frames = images.length / count;
  for (let start = 0; start < frames; start += BATCH) {
    const number = Math.min(BATCH, frames - start);
    const part = images.subarray(start * count, (start + number) * count);
    const input = new ort.Tensor('float32', part, [number, 1, SIDE, SIDE]);
    const result = await session.run({ [session.inputNames[0]]: input });
    const logits = result[session.outputNames[0]].data;
    const exponents = new Float64Array(classes);
    for (let i = 0; i < number * count; i++) {
      const at = Math.floor(i / count) * classes * count + (i % count);
      let most = -Infinity;
      for (let c = 0; c < classes; c++) most = Math.max(most, logits[at + c * count]);
      let sum = 0;
      for (let c = 0; c < classes; c++) sum += exponents[c] = Math.exp(logits[at + c * count] - most);
      const likely = 1 - f32(exponents[0] / sum);
      organ[start * count + i] = likely;
      if (classes > 2 && likely > 0.5) {
        for (let c = 1; c < classes; c++) votes[c - 1] += exponents[c] / sum;
      }
    }
  }
  return { organ, votes };
}

/** The box around the largest organ, from the probabilities of all passes on one grid. */
function findSector(passes, dims, zooms) {
  if (!passes.length) return null;
  const sides = dims.map((n, i) => n * zooms[i]);
  const cell = Math.max(...sides) / CELLS;
  const grid = sides.map((side) => Math.max(1, round(side / cell)));
  const sizes = sides.map((side, i) => side / grid[i]);
  const likely = new Float32Array(grid[0] * grid[1] * grid[2]);
  for (const pass of passes) {
    const found = resampled(pass, grid, sizes);
    for (let i = 0; i < likely.length; i++) likely[i] += found[i] / passes.length;
  }
  const organ = largestOf(Uint8Array.from(likely, (n) => (n > LIKELY ? 1 : 0)), grid);
  const number = organ.reduce((sum, n) => sum + n, 0);
  if (number * sizes[0] * sizes[1] * sizes[2] < LEAST) return null;
  const box = { low: [], high: [] };
  let certainty = 1;
  for (let axis = 0; axis < 3; axis++) {
    const area = new Float64Array(grid[axis]);
    const step = [1, grid[0], grid[0] * grid[1]][axis];
    for (let i = 0; i < organ.length; i++) area[Math.floor(i / step) % grid[axis]] += organ[i];
    const most = Math.max(...area);
    const first = area.findIndex((n) => n > TIP * most);
    const last = area.findLastIndex((n) => n > TIP * most);
    box.low.push(round((first * sizes[axis]) / zooms[axis]));
    box.high.push(round(((last + 1) * sizes[axis]) / zooms[axis] - 1) + 1);
    const zone = Math.max(1, round(ZONE / sizes[axis]));
    certainty = Math.min(certainty, ...certainties(likely, organ, grid, axis, first, last, zone));
  }
  return { box, certainty };
}

/** Probabilities of one pass at the cells of a grid. */
function resampled({ axis, others, pixel, organ, count }, grid, sizes) {
  // Rows are the first of the other axes; columns, the second one, are fastest.
  let values = organ;
  let shape = [count, SIDE, SIDE];
  const order = [axis, ...others];
  const sources = [(sizes[axis] * grid[axis]) / count, pixel, pixel];
  for (let i = 0; i < 3; i++) {
    const target = grid[order[i]];
    const weights = linearWeights(shape[i], sources[i], target, sizes[order[i]]);
    const before = shape.slice(0, i).reduce((a, b) => a * b, 1);
    const after = shape.slice(i + 1).reduce((a, b) => a * b, 1);
    const result = new Float32Array(before * target * after);
    for (let a = 0; a < before; a++) {
      for (let t = 0; t < target; t++) {
        const to = (a * target + t) * after;
        for (const [s, weight] of weights[t]) {
          const from = (a * shape[i] + s) * after;
          for (let b = 0; b < after; b++) result[to + b] += values[from + b] * weight;
        }
      }
    }
    values = result;
    shape = shape.with(i, target);
  }
  const result = new Float32Array(values.length);
  const steps = [1, grid[0], grid[0] * grid[1]];
  let from = 0;
  for (let a = 0; a < shape[0]; a++) {
    for (let b = 0; b < shape[1]; b++) {
      const to = a * steps[order[0]] + b * steps[order[1]];
      for (let c = 0; c < shape[2]; c++) result[to + c * steps[order[2]]] = values[from++];
    }
  }
  return result;
}

/** The largest part of a mask, without what only touches it. */
function largestOf(mask, dims) {
  // What is cut off by the end of the field of view extends beyond it.
  const wide = dims.map((n) => n + 2 * OPENING);
  const padded = new Uint8Array(wide[0] * wide[1] * wide[2]);
  const inside = (n, axis) => Math.min(dims[axis] - 1, Math.max(0, n - OPENING));
  let at = 0;
  for (let z = 0; z < wide[2]; z++) {
    for (let y = 0; y < wide[1]; y++) {
      const row = (inside(z, 2) * dims[1] + inside(y, 1)) * dims[0];
      for (let x = 0; x < wide[0]; x++) padded[at++] = mask[row + inside(x, 0)];
    }
  }
  const box = boundingBox(padded, wide);
  if (!box) return mask;
  const near = grown(box, 1, wide);
  const sides = sidesOf(near);
  const part = cropped(padded, wide, near);
  let cores = within(part.map((n) => 1 - n), sides, OPENING).map((n) => 1 - n);
  if (!cores.includes(1)) cores = part;
  const parts = new Components(cores, sides, 6);
  const { largest } = parts;
  const around = within(parts.mask((component) => component === largest), sides, OPENING);
  const organ = part.map((n, i) => n & around[i]);
  pasted(padded, wide, near, organ);
  const inner = { low: [OPENING, OPENING, OPENING], high: dims.map((n) => n + OPENING) };
  return cropped(padded, wide, inner);
}

/** By how much the probability of the organ rises at both ends of an axis. */
function certainties(likely, organ, grid, axis, first, last, zone) {
  const steps = [1, grid[0], grid[0] * grid[1]];
  const [one, other] = [0, 1, 2].filter((n) => n !== axis);
  const length = grid[axis];
  return [[false, first], [true, length - 1 - last]].map(([turned, end]) => {
    const plane = (n) => (turned ? length - 1 - n : n) * steps[axis];
    let [inside, number, beyond, outside] = [0, 0, 0, 0];
    const outer = [Math.max(0, end - 2 * zone), Math.max(0, end - Math.floor(zone / 2))];
    for (let b = 0; b < grid[other]; b++) {
      for (let a = 0; a < grid[one]; a++) {
        const at = a * steps[one] + b * steps[other];
        let seen = false;
        for (let n = end; n < Math.min(end + zone, length); n++) {
          if (!organ[at + plane(n)]) continue;
          seen = true;
          inside += likely[at + plane(n)];
          number++;
        }
        if (!seen) continue;
        for (let n = outer[0]; n < outer[1]; n++) {
          beyond += likely[at + plane(n)];
          outside++;
        }
      }
    }
    const rise = inside / number - (outside ? beyond / outside : 0);
    return Math.min(1, Math.max(0, rise));
  });
}

/** The orientation that agrees best with the views along all axes. */
function findOrientation(votes) {
  const shares = votes.map((row) => {
    const total = Math.max(row.reduce((sum, n) => sum + n, 0), 1e-6);
    return row.map((n) => Math.log(n / total + LEAST_SHARE));
  });
  const scores = ORIENTATIONS.map((codes) =>
    [0, 1, 2].reduce((sum, axis) => {
      const view = codes.filter((_, other) => other !== axis).join('');
      return sum + shares[axis][VIEWS.indexOf(view)];
    }, 0),
  );
  const best = scores.indexOf(Math.max(...scores));
  return { codes: ORIENTATIONS[best], certainty: Math.min(1, Math.exp(scores[best] / 3)) };
}

/**
 * Remove labels far from the brain, in place, unless the box seems to cut it.
 * @param {Uint8Array | Uint16Array} labels
 * @param {import('./geometry.js').Geometry} grid
 * @param {Awaited<ReturnType<typeof localise>>} found
 */
export function restrict(labels, grid, { region, codes }) {
  if (!region) return { LabelsRestricted: false, RemovedVoxels: 0 };
  const onto = product(inverse(affineOf(region)), affineOf(grid));
  const ends = [0, 1, 2].map((axis) => ({
    row: onto[axis].map((n) => n * region.zooms[axis]),
    low: -0.5 * region.zooms[axis] - MARGIN_MM,
    high: (region.dims[axis] - 0.5) * region.zooms[axis] + MARGIN_MM,
  }));
  const limits = codes.map((code) => [code === 'S' ? BELOW : ACROSS, code === 'I' ? BELOW : ACROSS]);
  const area = [[0, 0], [0, 0], [0, 0]];
  const outside = [];
  const [X, Y, Z] = grid.dims;
  for (let z = 0, at = 0; z < Z; z++) {
    for (let y = 0; y < Y; y++) {
      for (let x = 0; x < X; x++, at++) {
        if (!labels[at]) continue;
        const past = ends.map(({ row, low, high }) => {
          const place = row[0] * x + row[1] * y + row[2] * z + row[3];
          return [low - place, place - high];
        });
        const beyond = past.map(([a, b]) => a > 0 || b > 0);
        const number = beyond[0] + beyond[1] + beyond[2];
        if (!number) continue;
        outside.push(at);
        if (number > 1) continue;
        const axis = beyond.indexOf(true);
        past[axis].forEach((mm, end) => (area[axis][end] += mm > 0 && mm <= DEPTH ? 1 : 0));
      }
    }
  }
  const size = voxelVolume(grid) / DEPTH / 100;
  let [most, across] = [0, 0];
  for (let axis = 0; axis < 3; axis++) {
    for (let end = 0; end < 2; end++) {
      const found = area[axis][end] * size;
      if (found / limits[axis][end] > most) [most, across] = [found / limits[axis][end], found];
    }
  }
  const cuts = most > 1;
  if (!cuts) for (const at of outside) labels[at] = 0;
  return {
    LabelsRestricted: !cuts,
    MarginMM: MARGIN_MM,
    RemovedVoxels: cuts ? 0 : outside.length,
    LabelsAcrossCM2: Math.round(across * 10) / 10,
    BoxCutsLabels: cuts,
  };
}
