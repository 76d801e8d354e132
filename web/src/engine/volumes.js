/** Volumes of labels. */
import { voxelVolume } from './geometry.js';

/**
 * @param {Uint8Array | Uint16Array} labels
 * @param {import('./geometry.js').Geometry} grid
 * @param {{ index: number, name: string, abbreviation: string, color: string }[]} table
 */
export function volumesOf(labels, grid, table) {
  const counts = new Float64Array(table.length);
  for (let i = 0; i < labels.length; i++) counts[labels[i]]++;
  const size = voxelVolume(grid) / 1000;
  return table.slice(1).map(({ index, name, abbreviation, color }) => ({
    index, name, abbreviation, color, voxels: counts[index], mL: counts[index] * size,
  }));
}
