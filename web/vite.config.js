import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vite';

const root = fileURLToPath(new URL('.', import.meta.url));
const out = fileURLToPath(new URL('../brainchop_bids/data/web', import.meta.url));

// The service worker has the list of all files of the page, and a version made of their contents.
function writeServiceWorker() {
  return {
    name: 'service-worker',
    apply: 'build',
    closeBundle() {
      const files = readdirSync(out, { recursive: true, withFileTypes: true })
        .filter((entry) => entry.isFile())
        .map((entry) => relative(out, join(entry.parentPath, entry.name)).split(sep).join('/'))
        .filter((name) => name !== 'licenses.md')
        .sort();
      const source = readFileSync(join(root, 'src/page/sw.js'), 'utf8');
      const hash = createHash('sha256').update(source);
      for (const name of files) hash.update(name).update(readFileSync(join(out, name)));
      const page = { version: hash.digest('hex').slice(0, 16), files };
      writeFileSync(join(out, 'sw.js'), `const PAGE = ${JSON.stringify(page)};\n${source}`);
    },
  };
}

export default defineConfig({
  root,
  // Relative addresses, so that the folder can stand anywhere on a server.
  base: './',
  plugins: [writeServiceWorker()],
  resolve: {
    alias: [{ find: /^numcodecs\/.*/, replacement: join(root, 'src/page/no-codec.js') }],
  },
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
