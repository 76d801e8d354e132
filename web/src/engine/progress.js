/** Steps of a computation: telling of them, and their seconds. */
import { check } from './errors.js';

/**
 * Return a function that runs a step, and the seconds of all steps so far.
 * @param {(progress: { step: string, done: number, total: number }) => void} onProgress
 * @param {AbortSignal} [signal]
 */
export function stepper(onProgress, signal) {
  /** @type {Record<string, number>} */
  const seconds = {};
  const step = async (key, work) => {
    const began = performance.now();
    onProgress({ step: key, done: 0, total: 0 });
    // The page gets a moment to show it.
    await new Promise((resolve) => setTimeout(resolve));
    check(signal);
    const result = await work((done, total) => onProgress({ step: key, done, total }));
    seconds[key] = secondsSince(began);
    return result;
  };
  return { step, seconds };
}

/** Seconds since a time of `performance.now()`, to the millisecond. */
export const secondsSince = (began) => Math.round(performance.now() - began) / 1000;
