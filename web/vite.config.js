import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const root = fileURLToPath(new URL('.', import.meta.url));
const out = fileURLToPath(new URL('../brainchop_bids/data/web', import.meta.url));

// The service worker keeps all files of the page; its cache is named after their contents.
function listFiles() {
  return {
    name: 'list-files',
    apply: 'build',
    closeBundle() {
      const files = readdirSync(out, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => relative(out, join(entry.parentPath, entry.name)).split(sep).join('/'))
        .filter((name) => !['files.json', 'sw.js', 'licenses.md'].includes(name))
        .sort();
      const hash = createHash('sha256');
      for (const name of files) hash.update(name).update(readFileSync(join(out, name)));
      const version = hash.digest('hex').slice(0, 16);
      writeFileSync(join(out, 'files.json'), `${JSON.stringify({ version, files }, null, 1)}\n`);
    },
  };
}

export default defineConfig({
  root,
  // Relative addresses, so that the folder can stand anywhere on a server.
  base: './',
  plugins: [listFiles()],
  worker: { format: 'es' },
  build: {
    outDir: out,
    emptyOutDir: true,
    target: 'es2022',
    // A data: address would need an exception in the page's policy.
    assetsInlineLimit: 0,
    modulePreload: { polyfill: false },
    license: { fileName: 'licenses.md' },
    reportCompressedSize: false,
    // NiiVue and ONNX Runtime are single large modules.
    chunkSizeWarningLimit: 4000,
    rolldownOptions: { input: [join(root, 'index.html'), join(root, 'speed.html')] },
  },
});
