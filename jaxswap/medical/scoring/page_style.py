"""How the page of an evaluation looks, and how its table is sorted and filtered."""

STYLE = """
:root{color-scheme:light dark;--ink:#1b1f24;--quiet:#5d6672;--paper:#fff;--card:#f4f6f8;
--line:#d5dae0;--blue:#0072b2;--warn:#b3400a}
@media(prefers-color-scheme:dark){:root{--ink:#e6e9ed;--quiet:#9aa4b0;--paper:#14181d;
--card:#1e242b;--line:#343c46;--blue:#4aa8e0;--warn:#ff9d6b}}
body{font:15px/1.5 system-ui,sans-serif;color:var(--ink);background:var(--paper);
max-width:1180px;margin:2rem auto;padding:0 1rem}
h1{margin:0;font-size:1.6rem}h2{margin:2rem 0 .4rem;font-size:1.15rem}
.quiet{color:var(--quiet);font-size:.87em;margin:.2rem 0}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(220px,1fr));gap:.7rem;
margin-top:1rem}
.card{background:var(--card);border-radius:8px;padding:.6rem .8rem}
.card strong{font-size:1.4rem;font-variant-numeric:tabular-nums}
.faults{border-left:4px solid var(--warn);padding-left:1rem;margin-top:1.5rem}
.faults h2{margin-top:0}.faults li{overflow-wrap:anywhere}
.plots{display:grid;grid-template-columns:repeat(auto-fit,minmax(min(520px,100%),1fr));
gap:1rem}
figure{margin:0 0 1rem;overflow-x:auto}figcaption{font-weight:600;margin-bottom:.2rem}
img{width:100%;min-width:700px;max-width:1210px;border-radius:6px}
svg{width:100%;min-width:520px;display:block}svg text{font-size:13px;fill:currentColor}
.end{text-anchor:end}.middle{text-anchor:middle}.grid{stroke:var(--line)}
.box{fill:var(--blue);fill-opacity:.16}.median{stroke:var(--blue);stroke-width:2.5}
circle{fill:var(--blue);fill-opacity:.65}circle:hover{fill:var(--warn);fill-opacity:1}
.wide{overflow-x:auto;margin-bottom:1rem}
table{border-collapse:collapse;width:100%;font-size:.9em}
td,th{padding:.22rem .6rem;text-align:left;vertical-align:top;
border-bottom:1px solid var(--line)}
#rows.sorts th{cursor:pointer}th[aria-sort=ascending]::after{content:" \\2191"}
th[aria-sort=descending]::after{content:" \\2193"}
th{vertical-align:bottom}summary{cursor:pointer;margin:.4rem 0}
.number{text-align:right;font-variant-numeric:tabular-nums}td{white-space:nowrap}
"""
"""Styles, for light and dark screens."""

SCRIPT = """
const table=document.getElementById("rows"),filter=document.getElementById("filter");
const body=table.tBodies[0],heads=[...table.tHead.rows[0].cells];
table.classList.add("sorts");
filter.hidden=document.getElementById("hint").hidden=false;
const key=(row,i)=>{const cell=row.cells[i],n=cell.dataset.sort;
return n===undefined?cell.textContent:Number(n)};
heads.forEach((head,i)=>head.onclick=()=>{
const up=head.getAttribute("aria-sort")==="ascending"?-1:1;
heads.forEach(other=>other.removeAttribute("aria-sort"));
head.setAttribute("aria-sort",up>0?"ascending":"descending");
const rows=[...body.rows].sort((a,b)=>{const x=key(a,i),y=key(b,i);
return up*(typeof x==="number"?x-y:x.localeCompare(y))});body.append(...rows)});
filter.oninput=()=>{const text=filter.value.toLowerCase();
for(const row of body.rows)row.hidden=!row.textContent.toLowerCase().includes(text)};
"""
"""The script. Without it the page shows everything, too."""
