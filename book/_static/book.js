// Font Awesome replaces <i> by <svg>; the widgets' Play button then looks for the <i> it made and crashes. Nesting keeps it.
const nest = () => { if (window.FontAwesome) FontAwesome.config.autoReplaceSvg = "nest"; };

// The widgets speak to MathJax 2 (MathJax.Hub.Queue(["Typeset", Hub, element])); the page has MathJax 3.
const hub = {
  Queue: ([, , element]) => MathJax.startup?.promise?.then(() => MathJax.typesetPromise([element])),
};
const answer = () => { if (window.MathJax) MathJax.Hub ??= hub; };

nest();
addEventListener("DOMContentLoaded", () => { nest(); answer(); });
