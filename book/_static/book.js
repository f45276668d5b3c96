// Font Awesome replaces <i> by <svg>; the widgets' Play button then looks for the <i> it made and crashes. Nesting keeps it.
const nest = () => { if (window.FontAwesome) FontAwesome.config.autoReplaceSvg = "nest"; };

// The widgets speak to MathJax 2 (MathJax.Hub.Queue(["Typeset", Hub, element])); the page has MathJax 3.
const hub = {
  Queue: ([, , element]) => MathJax.startup?.promise?.then(() => MathJax.typesetPromise([element])),
};
const answer = () => { if (window.MathJax) MathJax.Hub ??= hub; };

// A label that says something else than the visible words confuses voice control; the words suffice.
const unlabel = () => document.querySelectorAll("summary[aria-label], .search-button-field[aria-label]")
  .forEach(element => element.removeAttribute("aria-label"));

// Who scrolls by keyboard must be able to stand in what scrolls.
const focusable = () => document.querySelectorAll(".pst-scrollable-table-container")
  .forEach(element => { if (element.scrollWidth > element.clientWidth) element.tabIndex = 0; });

// A page opened by a double click may not fetch its neighbours: search then lists titles from its index and fetches no summaries.
if (location.protocol === "file:" && typeof DOCUMENTATION_OPTIONS !== "undefined") DOCUMENTATION_OPTIONS.SHOW_SEARCH_SUMMARY = false;

nest();
addEventListener("DOMContentLoaded", () => { nest(); answer(); unlabel(); focusable(); });
addEventListener("resize", focusable);
