// Keeps the page and its models, so that it works without a network after the first visit.
//
// Registered as `sw.js?isolate` by a page whose server does not send the headers that threads need:
// it then adds them.
const ISOLATE = new URL(self.location).searchParams.has('isolate');
const SCOPE = new URL('./', self.location).href;
const PREFIX = `brainchop ${SCOPE} `;
const HASHED = `${SCOPE}assets/`;

async function list(name) {
  const answer = await fetch(SCOPE + name, { cache: 'no-cache' });
  if (!answer.ok) throw new Error(`${name}: ${answer.status}`);
  return answer.json();
}

async function keep() {
  const { version, files } = await list('files.json');
  const { models } = await list('models/index.json');
  const names = [
    './', 'files.json', ...files,
    'models/index.json',
    ...models.flatMap((model) => model.files.map((file) => `models/${model.name}/${file}`)),
  ];
  const cache = await caches.open(PREFIX + version);
  await cache.addAll(names.map((name) => new Request(SCOPE + name, { cache: 'no-cache' })));
}

async function forgetOthers() {
  const { version } = await (await caches.match(`${SCOPE}files.json`)).json();
  const names = await caches.keys();
  const old = names.filter((name) => name.startsWith(PREFIX) && name !== PREFIX + version);
  await Promise.all(old.map((name) => caches.delete(name)));
}

function isolated(answer) {
  if (!ISOLATE || answer.status === 0) return answer;
  const headers = new Headers(answer.headers);
  headers.set('Cross-Origin-Opener-Policy', 'same-origin');
  headers.set('Cross-Origin-Embedder-Policy', 'require-corp');
  return new Response(answer.body, { status: answer.status, statusText: answer.statusText, headers });
}

async function kept(request) {
  const names = (await caches.keys()).filter((name) => name.startsWith(PREFIX)).reverse();
  for (const name of names) {
    const found = await (await caches.open(name)).match(request, { ignoreSearch: true });
    if (found) return found;
  }
  return undefined;
}

// Names of assets change with their contents. All else comes from the server while there is one,
// so that neither a new version nor another model is missed.
async function answer(request) {
  if (request.url.startsWith(HASHED)) return (await kept(request)) ?? fetch(request);
  try {
    return await fetch(request);
  } catch (error) {
    const found = await kept(request);
    if (found) return found;
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
