/** Models whose files were dropped on the page. */
import { UserError } from './errors.js';
import { readOnnx } from './onnx.js';
import { stepsOfOnnx, stepsOfTfjs } from './steps.js';

/**
 * Read a model.
 * @param {{ name: string, data: ArrayBuffer }[]} files `model.json` and its shards, or an ONNX
 *   file; optionally `brainchop.json` or `manifest.json`, `labels.json` with `colorLUT.json`, and
 *   `colormap.json`
 * @returns {{ manifest: any, weights: any, warnings: string[] }}
 */
export function readDroppedModel(files) {
  const byName = new Map(files.map((file) => [file.name.split(/[\\/]/).at(-1), file.data]));
  const json = (name) => (byName.has(name) ? parsed(byName.get(name), name) : null);
  const onnx = [...byName.keys()].find((name) => name.toLowerCase().endsWith('.onnx'));
  const facts = json('manifest.json') ?? json('brainchop.json') ?? {};
  const warnings = [];
  let [weights, classes, name] = [null, null, onnx];
  if (onnx) {
    weights = byName.get(onnx);
    classes = stepsOfOnnx(readOnnx(new Uint8Array(weights), onnx))?.at(-1).outputs ?? null;
  } else {
    name = 'model.json';
    const content = json(name);
    if (!content) {
      throw new UserError('there is no model among the files; choose model.json and its shards, or an ONNX file');
    }
    weights = stepsOfTfjs(content, byName, name);
    classes = weights.at(-1).outputs;
  }
  const labels = labelsOf(facts, json, classes, warnings, name);
  if (classes !== null && labels.length !== classes) {
    throw new UserError(`${name}: has ${classes} classes, but ${labels.length} labels; correct the labels`);
  }
  if (facts.normalization === undefined) {
    warnings.push(`the normalisation of the input of ${name} is unknown; assuming minmax`);
  }
  return {
    manifest: { normalization: 'minmax', ...facts, name: facts.name ?? name.replace(/\.\w+$/, ''), labels },
    weights,
    warnings,
  };
}

function parsed(data, name) {
  try {
    return JSON.parse(new TextDecoder().decode(data));
  } catch (error) {
    throw new UserError(`${name}: is no valid JSON (${error.message}); write it again`);
  }
}

/** The label table: names and colours of all classes. */
function labelsOf(facts, json, classes, warnings, model) {
  const [map, names, colors] = [json('colormap.json'), json('labels.json'), json('colorLUT.json')];
  let rows = [];
  if (Array.isArray(map?.labels)) {
    rows = map.labels.map((name, i) => ({ name, color: ['R', 'G', 'B'].map((key) => map[key]?.[i] ?? 0) }));
  } else if (names) {
    rows = Object.keys(names).map((key) => ({ name: names[key], color: colors?.[key] }));
  }
  const count = classes ?? Math.max(rows.length, facts.labels?.length ?? 0);
  if (!count) throw new UserError(`${model}: has no labels; choose its labels.json or colormap.json as well`);
  if (!rows.length && !facts.labels) {
    rows = Array.from({ length: count }, (_, i) => ({ name: i ? `Label-${i}` : 'background' }));
    warnings.push(`${model} has no labels; its ${count} classes are called Label-1, Label-2, ...`);
  }
  for (const [i, label] of (facts.labels ?? []).entries()) {
    const index = label.index ?? i;
    rows[index] = { ...rows[index], ...label };
  }
  const used = new Set();
  return rows.map((row, index) => {
    const name = String(row.name ?? `Label-${index}`);
    let short = row.abbreviation ?? camelCase(name) ?? `Label${index}`;
    for (let n = 2; used.has(short.toLowerCase()); n++) short = `${camelCase(name)}x${n}`;
    used.add(short.toLowerCase());
    return {
      index, name, abbreviation: short, color: colorOf(row.color, index),
      mapping: row.mapping ?? null, freesurfer: row.freesurfer ?? null,
    };
  });
}

const camelCase = (name) =>
  (name.match(/[A-Za-z0-9]+/g) ?? ['Label']).map((word) => word[0].toUpperCase() + word.slice(1)).join('');

/** `#rrggbb` of that, of `rgb(r, g, b)` or of three numbers; else one that differs from the others. */
function colorOf(given, index) {
  if (/^#[0-9a-f]{6}$/i.test(given)) return given;
  const parts = Array.isArray(given) ? given : String(given ?? '').match(/\d+/g)?.map(Number);
  const right = parts?.length === 3 && parts.every((n) => n >= 0 && n <= 255);
  const [red, green, blue] = right ? parts : distinct(index);
  return `#${[red, green, blue].map((n) => Math.round(n).toString(16).padStart(2, '0')).join('')}`;
}

/** Black, then hues that advance by the golden ratio of the circle. */
function distinct(index) {
  if (!index) return [0, 0, 0];
  const hue = ((index * (Math.sqrt(5) - 1)) / 2) % 1;
  const [saturation, value] = [[0.85, 0.6, 1][index % 3], [1, 0.9, 0.75][index % 3]];
  return [5, 3, 1].map((n) => {
    const k = (n + hue * 6) % 6;
    return 255 * value * (1 - saturation * Math.max(0, Math.min(k, 4 - k, 1)));
  });
}
