// Limits how often a function runs.

const MOST_MS = 5000;

/**
 * Create a function that runs *work* soon, once for many calls, and never concurrently.
 *
 * Between two runs it waits *least* milliseconds, or twenty times the duration of the last run, so that repeated
 * requests take at most a twentieth of the server's time.
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
