export async function localise() { return null; }
export function restrict() { return null; }
