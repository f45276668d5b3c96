"""How the card's pages look: light, dark and on paper, at any width. Words and symbols carry the
meaning, colours only repeat it.
"""

_LIGHT = (
    "--page:#fff;--panel:#f6f7f9;--text:#1b1f24;--soft:#57606a;--rule:#d0d7de;--link:#0b50b5;--network:#a84300;--stable:#00609c;"
    "--twin:#59616a;--front:#00704d;--good:#0a5c36;--good-back:#dcf3e5;--mid:#6b4a00;--mid-back:#fff1cc;--bad:#9c1c1c;"
    "--bad-back:#fde4e1;--none:#4b535c;--none-back:#e8ebef"
)
_DARK = (
    "--page:#14181e;--panel:#1d232b;--text:#e6eaee;--soft:#a9b3bd;--rule:#3a434d;--link:#9ecbff;--network:#ff9f5a;--stable:#77bdf5;"
    "--twin:#b4bcc5;--front:#58d3a8;--good:#8fe3b5;--good-back:#163a28;--mid:#ffd479;--mid-back:#3d3010;--bad:#ffb0a6;"
    "--bad-back:#4a1c1a;--none:#c3cad2;--none-back:#2b333c"
)

STYLE = (
    f"""
:root{{color-scheme:light;{_LIGHT}}}
@media (prefers-color-scheme:dark){{:root:not([data-theme=light]){{color-scheme:dark;{_DARK}}}}}
:root[data-theme=dark]{{color-scheme:dark;{_DARK}}}
@media print{{:root:root:root{{color-scheme:light;{_LIGHT}}}}}
"""
    + """
*{box-sizing:border-box}
html{background:var(--page)}
body{margin:0;background:var(--page);color:var(--text);font:1rem/1.5 system-ui,"Segoe UI",Roboto,"Helvetica Neue",Arial,sans-serif;
 font-variant-numeric:tabular-nums;overflow-wrap:break-word}
main{max-width:62rem;margin:0 auto;padding:1rem 1.1rem 2.5rem}
h1{font-size:1.75rem;line-height:1.2;margin:.1rem 0 .4rem}
h2{font-size:1.2rem;line-height:1.3;margin:2.2rem 0 .5rem;padding-top:.5rem;border-top:2px solid var(--rule)}
h3{font-size:1rem;margin:1.2rem 0 .3rem}
p{margin:.35rem 0 .7rem;max-width:46rem}
a{color:var(--link)}
.kind{font-size:.85rem;font-weight:600;letter-spacing:.06em;text-transform:uppercase;color:var(--soft);margin:0}
.scope,.note,figcaption,.rule{color:var(--soft);font-size:.9rem}
.summary{font-size:1.08rem;max-width:48rem}
.warning{border-left:4px solid var(--bad);background:var(--bad-back);padding:.5rem .8rem;max-width:none}
.tests{list-style:none;margin:1rem 0 0;padding:0;display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,26rem),1fr));gap:.8rem}
.tests>li{background:var(--panel);border:1px solid var(--rule);border-radius:.5rem;padding:.7rem .9rem}
.tests h3{margin:0 0 .45rem}
.tests p{margin:.4rem 0 0}
.chips{display:grid;grid-template-columns:1fr 1fr;gap:.5rem;margin:0}
.chips dt{font-size:.85rem;color:var(--soft)}
.chips dd{margin:.1rem 0 0}
.chip{display:inline-block;border-radius:.3rem;padding:.1rem .55rem .12rem;font-weight:600;border:1px solid currentColor}
.good{color:var(--good);background:var(--good-back)}.mid{color:var(--mid);background:var(--mid-back)}
.bad{color:var(--bad);background:var(--bad-back)}.none{color:var(--none);background:var(--none-back)}
.facts{margin:.4rem 0 0}.facts>div{display:grid;grid-template-columns:10rem minmax(0,1fr);gap:0 1rem;padding:.1rem 0}
.facts dt{color:var(--soft);font-weight:600}.facts dd{margin:0;overflow-wrap:anywhere}
.facts code,td code,li code{font-size:.85em;overflow-wrap:anywhere}
.two{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(100%,22rem),1fr));gap:.4rem 1.6rem}
figure{margin:.8rem 0}
figcaption{margin-top:.3rem;max-width:46rem}
.plot{display:block;width:100%;max-width:32rem;height:auto;font-size:13px}
.plot text{fill:var(--text)}.y{margin:.2rem 0 .1rem;font-size:.9rem;font-weight:600}
.grid{stroke:var(--rule);stroke-width:1;fill:none}.axis{stroke:var(--soft);fill:none}
.line,.lead{fill:none;stroke-width:2.2}.lead{stroke-width:1}
.line.network,.lead.network,.mark.network{stroke:var(--network)}
.line.stable,.lead.stable,.mark.stable,.line.own,.lead.own,.mark.own{stroke:var(--stable)}
.line.twin,.lead.twin,.mark.twin,.line.trained{stroke:var(--twin)}.line.front,.lead.front,.mark.front{stroke:var(--front)}
.plot text.network{fill:var(--network)}.plot text.stable,.plot text.own{fill:var(--stable)}.plot text.twin{fill:var(--twin)}
.plot text.front{fill:var(--front)}
.dot.network{fill:var(--network)}.dot.stable{fill:var(--stable)}.mark{fill:var(--page);stroke-width:1.8}.mark.network{fill:var(--network)}
.mark.bound{fill:none;stroke:var(--text);stroke-width:2.6}.mark.own{fill:var(--page)}
.between{fill:var(--none-back);stroke:var(--rule)}
.sample{vertical-align:-.15em;margin-right:.4em;overflow:visible}
.key{list-style:none;padding:0;margin:.3rem 0;font-size:.9rem;display:flex;flex-wrap:wrap;gap:.15rem 1.4rem}
.pictures{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(46%,7.6rem),1fr));gap:.8rem;margin:.8rem 0}
.pictures figure{margin:0;min-width:0}
.pictures img{display:block;width:100%;height:auto;image-rendering:pixelated;background:#000}
.pictures .title{font-weight:600;font-size:.9rem;color:var(--text);display:block}
.pictures figcaption{font-size:.82rem;line-height:1.35}
.table{overflow-x:auto;margin:.6rem 0 1rem}
.table:focus-visible,summary:focus-visible,a:focus-visible{outline:3px solid var(--link);outline-offset:2px}
caption span{position:sticky;left:0;display:inline-block;max-width:calc(100vw - 2.4rem)}
table{border-collapse:collapse;font-size:.86rem;line-height:1.35}
caption{caption-side:top;text-align:left;font-weight:600;padding-bottom:.25rem}
th,td{padding:.25rem .55rem;border-bottom:1px solid var(--rule);text-align:right;vertical-align:top}
thead th{vertical-align:bottom;font-weight:600}
th.text,td.text,tbody th{text-align:left}
tbody th{font-weight:400}
td span{white-space:nowrap}.two>*{min-width:0}.two .table{align-self:center}
.ci{color:var(--soft);font-size:.92em}
details{margin:.5rem 0}summary{cursor:pointer;font-weight:600;font-size:.92rem}
.plain{padding-left:1.2rem;margin:.3rem 0 .6rem}.plain li{margin:.25rem 0}
@media (max-width:34rem){.facts>div{grid-template-columns:1fr}.facts dd{margin-bottom:.35rem}h1{font-size:1.45rem}}
@page{size:A4;margin:12mm 14mm}
@media print{
 *{print-color-adjust:exact;-webkit-print-color-adjust:exact}
 html{font-size:7.9pt}body{line-height:1.3}main{max-width:none;padding:0}
 h1{font-size:17pt}h2{font-size:11.5pt;margin:4mm 0 1.2mm;padding-top:1.5mm;border-top-width:1px}h3{font-size:9.5pt;margin:2mm 0 .5mm}
 h2,h3,caption,.y,section>p:first-of-type,.key{break-after:avoid}p,.summary{max-width:none}.summary{font-size:9.5pt}
 figure,.tests>li,.table,tr,.key,li,p,.facts>div{break-inside:avoid}
 .tests{grid-template-columns:1fr 1fr;gap:2.5mm;margin-top:2mm}.tests>li{padding:2mm 3mm}
 .two{grid-template-columns:1fr 1fr;gap:0 6mm}.two.uneven{grid-template-columns:5fr 6fr;gap:0 4mm}.plot{max-width:78mm}
 .pictures{grid-template-columns:repeat(auto-fill,minmax(23mm,1fr));gap:2mm}
 .pictures figcaption{font-size:7.2pt}.pictures .title{font-size:8pt}
 .table{overflow:visible;margin:1.5mm 0 2.5mm}table{font-size:7.2pt;width:100%}th,td{padding:.5mm 1.1mm}
 .glossary{columns:2;column-gap:8mm;font-size:7.5pt;line-height:1.28}
 .glossary>div{display:block;break-inside:avoid;padding:.5mm 0}.glossary dt,.glossary dd{display:inline}.glossary dt:after{content:': '}
 .facts>div{grid-template-columns:32mm minmax(0,1fr);padding:0}.screen{display:none}
}
"""
)
