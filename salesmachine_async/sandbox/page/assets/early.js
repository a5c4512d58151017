// Runs before the first paint, so that the page does not flash in another theme.
(() => {
  let theme = null;
  try {
    theme = localStorage.getItem("salesmachine-sandbox-theme");
  } catch {
    // Storage may be forbidden; the system's theme is then the only one.
  }
  if (theme === "light" || theme === "dark") document.documentElement.dataset.theme = theme;
})();
