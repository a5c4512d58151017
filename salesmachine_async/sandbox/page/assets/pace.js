// Doing something often enough, and no oftener than is cheap.

const MOST_MS = 5000;

/**
 * Makes a function that runs *work* soon, once for many calls; never twice at a time.
 *
 * Between two runs it rests *least* milliseconds, or twenty times as long as the last one took: whatever is asked of
 * the server again and again costs it a twentieth of its time, but for what takes it very long.
 */
export function paced(work, least) {
  let wanted = false;
  let busy = false;
  const run = async () => {
    busy = true;
    while (wanted) {
      wanted = false;
      const begun = performance.now();
      try {
        await work();
      } catch {
        // The next update asks again; that the server is gone is shown by the stream.
      }
      const took = performance.now() - begun;
      await new Promise((done) => setTimeout(done, Math.max(least, Math.min(20 * took, MOST_MS))));
    }
    busy = false;
  };
  return () => {
    wanted = true;
    if (!busy) run();
  };
}
