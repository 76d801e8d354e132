// What this browser and this server can do, and the service worker.
import { make, note } from './dom.js';

// A function that returns i8x16.splat(0): the smallest module with SIMD.
const SIMD = new Uint8Array([
  0, 97, 115, 109, 1, 0, 0, 0, 1, 5, 1, 96, 0, 1, 123, 3, 2, 1, 0, 10, 8, 1, 6, 0, 65, 0, 253, 15, 11,
]);

/** The reason why this browser cannot run networks, or `null`. */
export function missing() {
  if (typeof WebAssembly !== 'object') {
    return 'This browser has no WebAssembly, which the networks need; use a current Firefox, Chrome, Edge or Safari.';
  }
  if (!WebAssembly.validate(SIMD)) {
    return 'The WebAssembly of this browser has no SIMD, which the networks need; use a current Firefox, Chrome, Edge or Safari.';
  }
  return null;
}

export const hasWebGl2 = () => document.createElement('canvas').getContext('webgl2') !== null;

export const threads = () => (crossOriginIsolated ? (navigator.hardwareConcurrency ?? 1) : 1);

/** Keep the page for use without a network, and say so where threads are missing. */
export async function register() {
  const worker = navigator.serviceWorker;
  if (!crossOriginIsolated) {
    // The worker adds the headers, which takes effect when the page is loaded from it.
    const reload = make('button', { type: 'button', textContent: 'Reload' });
    reload.addEventListener('click', () => location.reload());
    note(
      'One thread only: this server does not send the headers COOP and COEP. ',
      ...(worker ? ['Once the page is kept for use offline, it runs with all cores: ', reload] : []),
    );
  }
  if (!worker) return;
  try {
    await worker.register(crossOriginIsolated && !worker.controller?.scriptURL.includes('?isolate') ? 'sw.js' : 'sw.js?isolate');
  } catch (error) {
    note(`This page is not kept for use offline: ${error.message}`);
  }
}
