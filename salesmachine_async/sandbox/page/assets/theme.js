// Light or dark: the setting of the system unless the user selects a theme.

import { toast } from "./dom.js";

const KEY = "salesmachine-sandbox-theme";

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

/** Switch the theme, and store it. */
export function switchTheme() {
  const theme = isDark() ? "light" : "dark";
  document.documentElement.dataset.theme = theme;
  try {
    localStorage.setItem(KEY, theme);
  } catch {
    // Forbidden: it holds until the page is loaded again.
  }
  toast(theme === "dark" ? "Dark" : "Light");
}
