// Keeps the page and its models, so that it works without a network after the first visit. The build
// puts `PAGE` before it, the version and the files of the page.
//
// Registered as `sw.js?isolate` by a page whose server does not send the headers that threads need:
// it then adds them.
/* global PAGE */
const ISOLATE = new URL(self.location).searchParams.has('isolate');
const SCOPE = new URL('./', self.location).href;
const PREFIX = `brainchop ${SCOPE} `;
const CACHE = PREFIX + PAGE.version;
const HASHED = `${SCOPE}assets/`;
const MODELS = `${SCOPE}models/`;

async function keep() {
  const answer = await fetch(`${SCOPE}models/index.json`, { cache: 'no-cache' });
  if (!answer.ok) throw new Error(`models/index.json: ${answer.status}`);
  const { models } = await answer.json();
  const files = models.flatMap(({ name, files: own }) => own.map((file) => `models/${name}/${file}`));
  const cache = await caches.open(CACHE);
  const names = ['./', ...PAGE.files, 'models/index.json', ...files];
  await cache.addAll(names.map((name) => new Request(SCOPE + name, { cache: 'no-cache' })));
}

async function forgetOthers() {
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(PREFIX) && name !== CACHE);
  await Promise.all(old.map((name) => caches.delete(name)));
}

function isolated(answer) {
  if (!ISOLATE || answer.status === 0) return answer;
  const headers = new Headers(answer.headers);
  headers.set('Cross-Origin-Opener-Policy', 'same-origin');
  headers.set('Cross-Origin-Embedder-Policy', 'require-corp');
  return new Response(answer.body, { status: answer.status, statusText: answer.statusText, headers });
}

// Names of assets change with their contents. All else comes from the server while there is one,
// so that neither a new version nor another model is missed.
async function answer(request) {
  const cache = await caches.open(CACHE);
  const kept = await cache.match(request, { ignoreSearch: true });
  if (kept && request.url.startsWith(HASHED)) return kept;
  try {
    const fresh = await fetch(request);
    if (fresh.ok && (kept || request.url.startsWith(MODELS))) {
      await cache.put(request, fresh.clone());
    }
    return fresh;
  } catch (error) {
    if (kept) return kept;
    throw error;
  }
}

self.addEventListener('install', (event) => event.waitUntil(keep()));
self.addEventListener('activate', (event) => {
  event.waitUntil(forgetOthers().then(() => self.clients.claim()));
});
self.addEventListener('fetch', (event) => {
  const { request } = event;
  if (request.method !== 'GET' || !request.url.startsWith(SCOPE)) return;
  event.respondWith(answer(request).then(isolated));
});
