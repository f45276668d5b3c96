// Font Awesome replaces <i> by <svg>; the widgets' Play button then looks for the <i> it made and crashes. Nesting keeps it.
const nest = () => { if (window.FontAwesome) FontAwesome.config.autoReplaceSvg = "nest"; };
nest();
addEventListener("DOMContentLoaded", nest);
