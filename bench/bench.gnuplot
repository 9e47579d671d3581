# SPDX-License-Identifier: GPL-2.0-only
# The figure of what bench.py wrote, which puts it into docs/: the first column names the places on the x axis, the first line the curves.

set terminal svg size 900,380 font "sans-serif,12" background "white"
set output "build/bench/bench.svg"

set ylabel "instructions"
set format y "%'.0f"
set yrange [0:*]
set offsets 0.2, 0.2, 0, 0
set grid ytics linecolor "#dddddd"
set border 3
set tics nomirror
set key autotitle columnhead left top reverse Left
set style data linespoints
set linetype 1 linecolor "#888888" linewidth 5 pointtype 7 pointsize 0.8
set linetype 2 linecolor "#0072b2" linewidth 2 pointtype 7 pointsize 0.5
set linetype 3 linecolor "#e69f00" linewidth 2 pointtype 6 pointsize 0.9
set linetype 4 linecolor "#d55e00" linewidth 2 pointtype 9 pointsize 0.7
set linetype 5 linecolor "#009e73" linewidth 2 pointtype 11 pointsize 0.7

set multiplot layout 1,2
set xlabel "domains, no other mappings"
plot [][0:8000] for [n = 2:6] "build/bench/domains.dat" using 0:n:xticlabels(1)
set xlabel "other mappings, three domains"
unset key
plot [][0:8000] for [n = 2:6] "build/bench/mappings.dat" using 0:n:xticlabels(1)
unset multiplot
