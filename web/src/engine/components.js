/**
 * Clean-up of label maps and brain masks, by the rules of `brainchop_bids.image.components`.
 *
 * Conformed volumes have voxels of 1 mm, so that millimetres are voxels here.
 */
import { boundingBox, cropped, grown, pasted, sidesOf } from './boxes.js';
import { nearest, within } from './distance.js';
import { UserError } from './errors.js';
import { Components } from './runs.js';

// Smallest size of a part of the eroded mask that is removed, relative to the largest part.
const THICK = 0.001;
const LEAST_VOID = 500;
const MOST_EMPTY = 0.01;

/**
 * Read a rule such as `per-label+min:20` or `groups:1,2/3+fill`.
 * @param {string} text
 * @param {string} model its name, for messages
 */
export function parseCleanup(text, model) {
  const [head, ...options] = text.split('+');
  const [rule, listed] = head.split(':');
  const found = { rule, groups: [], open: 0, min: 0, within: 0, fill: false };
  const bad = new UserError(`${model}: component rule '${text}' is not known; correct brainchop.json`);
  if (!['largest', 'per-label', 'none', 'groups'].includes(rule)) throw bad;
  if ((rule === 'groups') !== Boolean(listed)) throw bad;
  if (listed) found.groups = listed.split('/').map((group) => group.split(',').map(Number));
  if (!found.groups.flat().every((label) => Number.isInteger(label) && label > 0)) throw bad;
  for (const option of options) {
    const [name, value] = option.split(':');
    if (name === 'fill' && value === undefined) found.fill = true;
    else if (['open', 'min', 'within'].includes(name) && Number(value) > 0) found[name] = Number(value);
    else throw bad;
  }
  if (found.open && rule !== 'largest') throw bad;
  return found;
}

/**
 * Clean up labels, make the brain mask from them, and remove labels far from the mask.
 * @template {Uint8Array | Uint16Array} T
 * @param {T} labels
 * @param {number[]} dims
 * @param {ReturnType<typeof parseCleanup>} rule
 * @param {{ exclude?: number[], open_mm?: number, closing_mm?: number } | null} maskRule null for
 *   labels that do not cover the brain
 * @returns {{ labels: T, mask: Uint8Array, removed: { components: number, voxels: number, filled: number } }}
 */
export function cleanLabels(labels, dims, rule, maskRule) {
  const kept = keepComponents(labels, dims, rule);
  const mask = brainMask(kept.labels, dims, maskRule ?? {});
  if (!rule.within) return { ...kept, mask };
  const near = nearMask(kept.labels, mask, dims, rule.within, maskRule?.exclude ?? []);
  const result = keepComponents(near.labels, dims, { ...rule, open: 0 });
  const removed = {
    components: kept.removed.components + result.removed.components,
    voxels: kept.removed.voxels + near.removed + result.removed.voxels,
    filled: kept.removed.filled + result.removed.filled,
  };
  return { labels: result.labels, mask, removed };
}

/** Remove connected components by a rule. */
export function keepComponents(labels, dims, rule) {
  const removed = { components: 0, voxels: 0, filled: 0 };
  const idle = rule.rule === 'none' && !rule.open && !rule.min && !rule.fill;
  const box = idle ? null : boundingBox(labels, dims);
  if (!box) return { labels, removed };
  const sides = sidesOf(box);
  const inside = cropped(labels, dims, box);
  const joined = joinedBy(inside, rule);
  const parts = new Components(joined, sides);
  const keep = keptBy(parts, rule);
  for (const component of parts.all) {
    if (keep.has(component) && parts.sizes[component] >= rule.min) continue;
    keep.delete(component);
    removed.components += 1;
    removed.voxels += parts.sizes[component];
  }
  let stay = parts.mask((component) => keep.has(component));
  if (rule.open) {
    const before = count(stay);
    stay = withoutHangers(stay, sides, rule.open);
    removed.voxels += before - count(stay);
  }
  for (let i = 0; i < inside.length; i++) if (!stay[i]) inside[i] = 0;
  if (rule.fill) removed.filled = fillLabels(inside, sides);
  return { labels: pasted(new labels.constructor(labels.length), dims, box, inside), removed };
}

const count = (mask) => mask.reduce((sum, n) => sum + n, 0);

/** The map whose components are computed: labels of one group have one value. */
function joinedBy(labels, { rule, groups }) {
  if (rule === 'per-label') return labels;
  const result = new labels.constructor(labels.length);
  if (rule !== 'groups') {
    for (let i = 0; i < labels.length; i++) result[i] = labels[i] ? 1 : 0;
    return result;
  }
  const table = Uint16Array.from({ length: 65536 }, (_, label) => label);
  for (const group of groups) for (const label of group) table[label] = group[0];
  for (let i = 0; i < labels.length; i++) result[i] = table[labels[i]];
  return result;
}

/** Components that a rule keeps, regardless of their sizes. */
function keptBy(parts, { rule, groups }) {
  if (rule === 'none') return new Set(parts.all);
  if (rule === 'largest') return new Set([parts.largest]);
  const firsts = groups.map(([label]) => label);
  const keep = new Set();
  const best = new Map();
  for (const component of parts.all) {
    const label = parts.values[parts.starts[component]];
    if (rule === 'groups' && !firsts.includes(label)) keep.add(component);
    const other = best.get(label);
    if (other === undefined || parts.sizes[component] > parts.sizes[other]) best.set(label, component);
  }
  for (const component of best.values()) keep.add(component);
  return keep;
}

/** Remove voxels that are nearer to another part of the eroded mask than to the largest. */
function withoutHangers(mask, dims, radius) {
  const border = 1 + Math.floor(radius);
  const whole = { low: [0, 0, 0], high: dims };
  const outside = cropped(mask, dims, whole, border);
  for (let i = 0; i < outside.length; i++) outside[i] ^= 1;
  const wide = dims.map((n) => n + 2 * border);
  const eroded = within(outside, wide, radius);
  for (let i = 0; i < eroded.length; i++) eroded[i] ^= 1;
  const inner = { low: [border, border, border], high: dims.map((n) => n + border) };
  const parts = new Components(cropped(eroded, wide, inner), dims);
  const { largest } = parts;
  const others = new Set(
    parts.all.filter((one) => one !== largest && parts.sizes[one] > THICK * parts.sizes[largest]),
  );
  if (!others.size) return mask;
  const main = parts.mask((component) => component === largest);
  const places = nearest(parts.mask((component) => component === largest || others.has(component)), dims);
  const stays = mask.slice();
  for (let i = 0; i < stays.length; i++) if (stays[i] && !main[places[i]]) stays[i] = 0;
  const rest = new Components(stays, dims);
  const chosen = rest.at(main.indexOf(1));
  return rest.mask((component) => component === chosen);
}

/** Give holes the label of the nearest labelled voxel; returns their number. */
function fillLabels(labels, dims) {
  const mask = Uint8Array.from(labels, (label) => (label ? 1 : 0));
  const whole = fillHoles(mask, dims);
  let holes = 0;
  for (let i = 0; i < mask.length; i++) holes += whole[i] - mask[i];
  if (!holes) return 0;
  const places = nearest(mask, dims);
  const given = labels.slice();
  for (let i = 0; i < mask.length; i++) if (whole[i] && !mask[i]) labels[i] = given[places[i]];
  return holes;
}

/**
 * Make a brain mask from labels.
 * @param {Uint8Array | Uint16Array} labels
 * @param {number[]} dims
 * @param {{ exclude?: number[], open_mm?: number, closing_mm?: number }} rule
 * @returns {Uint8Array}
 */
export function brainMask(labels, dims, { exclude = [], open_mm: open = 0, closing_mm: closing = 0 }) {
  const left = new Set(exclude);
  const foreground = new Uint8Array(labels.length);
  for (let i = 0; i < labels.length; i++) foreground[i] = labels[i] && !left.has(labels[i]) ? 1 : 0;
  const box = boundingBox(foreground, dims);
  if (!box) return foreground;
  const border = 1 + Math.floor(closing);
  const sides = sidesOf(box).map((n) => n + 2 * border);
  let mask = cropped(foreground, dims, box, border);
  if (open) mask = withoutHangers(largestOf(mask, sides), sides, open);
  if (closing) mask = closed(mask, sides, closing);
  mask = fillHoles(largestOf(mask, sides), sides);
  return pasted(new Uint8Array(labels.length), dims, box, rows(mask, sides, border));
}

/** Take off a border. */
function rows(mask, sides, border) {
  return cropped(mask, sides, { low: [border, border, border], high: sides.map((n) => n - border) });
}

function largestOf(mask, dims) {
  const parts = new Components(mask, dims);
  const { largest } = parts;
  return parts.mask((component) => component === largest);
}

function closed(mask, dims, radius) {
  const wide = within(mask, dims, radius);
  for (let i = 0; i < wide.length; i++) wide[i] ^= 1;
  const result = within(wide, dims, radius);
  for (let i = 0; i < result.length; i++) result[i] ^= 1;
  return result;
}

/** Fill background that no path of face neighbours connects to the border. */
export function fillHoles(mask, dims) {
  const outside = cropped(mask, dims, { low: [0, 0, 0], high: dims }, 1);
  for (let i = 0; i < outside.length; i++) outside[i] ^= 1;
  const wide = dims.map((n) => n + 2);
  const parts = new Components(outside, wide, 6);
  const around = parts.at(0);
  const result = parts.mask((component) => component === around);
  for (let i = 0; i < result.length; i++) result[i] ^= 1;
  return rows(result, wide, 1);
}

/** Remove labels outside of the mask; excluded labels are kept within a distance around it. */
function nearMask(labels, mask, dims, radius, exclude) {
  const result = new labels.constructor(labels.length);
  const either = new Uint8Array(labels.length);
  for (let i = 0; i < labels.length; i++) either[i] = labels[i] || mask[i] ? 1 : 0;
  const box = boundingBox(either, dims);
  if (!box) return { labels: result, removed: 0 };
  const found = cropped(labels, dims, box);
  const brain = cropped(mask, dims, box);
  const around = exclude.length ? within(brain, sidesOf(box), radius) : brain;
  const fluid = new Set(exclude);
  let removed = 0;
  for (let i = 0; i < found.length; i++) {
    if (!found[i] || brain[i] || (around[i] && fluid.has(found[i]))) continue;
    found[i] = 0;
    removed += 1;
  }
  return { labels: pasted(result, dims, box, found), removed };
}

/**
 * Remove labels from the empty background of a conformed scan, in place.
 * @returns {string[]} a line if it was more than a hundredth of the labels
 */
export function removeFromVoid(labels, conformed, dims) {
  let [labelled, suspect] = [0, 0];
  for (let i = 0; i < labels.length; i++) {
    if (!labels[i]) continue;
    labelled += 1;
    if (!conformed[i]) suspect += 1;
  }
  if (!suspect) return [];
  const empty = voidMask(conformed, dims, labels);
  let wrong = 0;
  for (let i = 0; i < labels.length; i++) {
    if (labels[i] && empty[i]) {
      labels[i] = 0;
      wrong += 1;
    }
  }
  if (wrong / labelled <= MOST_EMPTY) return [];
  return [
    `${Math.round((100 * wrong) / labelled)}% of the labels lay in empty background, where the scan ` +
      'is 0, and were removed; is it a T1w scan of a head?',
  ];
}

/** Zeros that stand together, opened by a cube of 27 voxels; right where there are labels. */
function voidMask(data, dims, labels) {
  // Opening reaches two voxels. Elsewhere it matters only whether there are enough voxels.
  const box = grown(boundingBox(labels, dims), 2, dims);
  const near = opened(cropped(data, dims, box), sidesOf(box));
  if (count(near) >= LEAST_VOID) return pasted(new Uint8Array(data.length), dims, box, near);
  const mask = opened(data, dims);
  return count(mask) >= LEAST_VOID ? mask : new Uint8Array(data.length);
}

function opened(data, dims) {
  let mask = new Uint8Array(data.length);
  for (let i = 0; i < data.length; i++) mask[i] = data[i] ? 0 : 1;
  for (const all of [true, false]) {
    let step = 1;
    for (const n of dims) {
      mask = spread(mask, step, n, all);
      step *= n;
    }
  }
  return mask;
}

/** Combine each voxel with its two neighbours; the outside of the volume is ignored. */
function spread(mask, step, n, all) {
  const result = mask.slice();
  const combine = (to, from, length) => {
    for (let i = 0; i < length; i++) {
      if (all) result[to + i] &= mask[from + i];
      else result[to + i] |= mask[from + i];
    }
  };
  const block = step * n;
  for (let at = 0; at < mask.length; at += block) {
    combine(at, at + step, block - step);
    combine(at + step, at, block - step);
  }
  return result;
}
