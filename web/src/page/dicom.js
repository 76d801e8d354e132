// Folders of DICOM slices, read by dcm2niix in WebAssembly. It is loaded when it is first needed.

/**
 * Convert slices to NIfTI files, the largest first.
 *
 * @param {File[]} files
 * @returns {Promise<File[]>}
 */
export async function convertDicom(files) {
  const { Dcm2niix } = await import('@niivue/dcm2niix');
  const converter = new Dcm2niix();
  await converter.init();
  try {
    const made = await converter.input(files).b('n').z('n').f('%p_%s').run();
    return made
      .filter((file) => file.name.endsWith('.nii'))
      .sort((one, other) => other.size - one.size);
  } finally {
    converter.worker.terminate();
  }
}

/** All files that were dropped, with those in folders; `folders` tells whether there were any. */
export async function droppedFiles(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = entries.length ? (await Promise.all(entries.map(filesIn))).flat() : [...transfer.files];
  return { files, folders: entries.some((entry) => entry.isDirectory) };
}

async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  // A reader gives its entries in parts; an empty part is the end.
  for (;;) {
    const part = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!part.length) break;
    found.push(...part);
  }
  return (await Promise.all(found.map(filesIn))).flat();
}
