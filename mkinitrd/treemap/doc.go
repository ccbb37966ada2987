// Package treemap draws what takes space as a treemap: nested rectangles whose
// areas are sizes, laid out by the squarified method (Bruls, Huizing, van Wijk:
// Squarified Treemaps, 2000). The page is one HTML file that loads nothing.
package treemap
