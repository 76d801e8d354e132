// The files that can be saved: contents and names.
import { readScan } from '../engine/nifti.js';
import { writeNiftiGz } from '../engine/nifti_write.js';

const FORMULA = /^'*[=+\-@\t\r]/;
export const MASK = [
  { index: 0, name: 'background', color: '#000000' },
  { index: 1, name: 'brain', color: '#dc3c3c' },
];
const NUMBER = /^[-+]?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?$/;

// Spreadsheets run cells that begin as formulas, see `brainchop_bids.system.text.table_cell`.
const cell = (text) => (FORMULA.test(text) && !NUMBER.test(text) ? `'${text}` : text);

/** The table of volumes as `brainchop-segment` writes it. */
export function volumesTable(volumes) {
  const rows = volumes.map(
    ({ index, name, voxels, mL }) => `${index}\t${cell(name)}\t${voxels}\t${(mL * 1000).toFixed(3)}`,
  );
  return ['index\tname\tvoxels\tvolume', ...rows, ''].join('\n');
}

/** Names as in our BIDS derivatives: `sub-01_T1w` and `tissue` give `sub-01_seg-tissue_dseg`. */
export function nameOf(kind, scan, model) {
  const base = scan.replace(/\.(nii\.gz|nii|mgz|mgh)$/i, '');
  const [, stem, suffix] = /^(.*)_([A-Za-z0-9]+)$/.exec(base) ?? [null, base, 'T1w'];
  const bids = /^sub-[A-Za-z0-9]+/.test(base);
  const start = bids ? stem : base;
  const slug = model.replaceAll(/[^A-Za-z0-9]/g, '');
  return {
    labels: `${start}_seg-${slug}_dseg.nii.gz`,
    volumes: `${start}_seg-${slug}_dseg.tsv`,
    provenance: `${start}_seg-${slug}_dseg.json`,
    mask: `${start}_desc-brain_mask.nii.gz`,
    brain: `${start}_desc-brain_${bids ? suffix : 'T1w'}.nii.gz`,
  }[kind];
}

/** The bytes or text of a file; `scan` is what `readScan` gave of `file`, without the values. */
export async function contentOf(kind, result, scan, file) {
  switch (kind) {
    case 'labels':
      return writeNiftiGz({ data: result.labels, scan, labels: result.table });
    case 'mask':
      return writeNiftiGz({ data: result.mask, scan, labels: MASK });
    case 'brain':
      return writeNiftiGz({ data: inside(result.mask, (await readScan(file)).data), scan });
    case 'volumes':
      return volumesTable(result.volumes);
    default:
      return `${JSON.stringify(result.provenance, null, 2)}\n`;
  }
}

/** Values inside of the mask, and 0 elsewhere; the values are overwritten. */
function inside(mask, values) {
  for (let i = 0; i < values.length; i++) if (!mask[i]) values[i] = 0;
  return values;
}
