package treemap

// Rect is a place on the page, in pixels.
type Rect struct{ X, Y, W, H float64 }

// squarify divides r among sizes, which are sorted, the largest first, and
// returns a rectangle for each: the area of r by their shares, and as near to
// squares as the method gets.
func squarify(sizes []int64, r Rect) []Rect {
	var total float64
	for _, s := range sizes {
		total += float64(s)
	}
	out := make([]Rect, 0, len(sizes))
	if total <= 0 || r.W <= 0 || r.H <= 0 {
		for range sizes {
			out = append(out, Rect{X: r.X, Y: r.Y})
		}
		return out
	}
	scale := r.W * r.H / total
	for len(sizes) > 0 {
		side := min(r.W, r.H)
		row, sum := 1, float64(sizes[0])*scale
		for row < len(sizes) {
			next := float64(sizes[row]) * scale
			if worst(float64(sizes[0])*scale, next, sum+next, side) > worst(float64(sizes[0])*scale, float64(sizes[row-1])*scale, sum, side) {
				break
			}
			sum += next
			row++
		}
		thick := 0.0
		if side > 0 {
			thick = sum / side
		}
		at := 0.0
		for _, s := range sizes[:row] {
			long := 0.0
			if thick > 0 {
				long = float64(s) * scale / thick
			}
			if r.W <= r.H {
				out = append(out, Rect{r.X + at, r.Y, long, thick})
			} else {
				out = append(out, Rect{r.X, r.Y + at, thick, long})
			}
			at += long
		}
		if r.W <= r.H {
			r.Y, r.H = r.Y+thick, max(r.H-thick, 0)
		} else {
			r.X, r.W = r.X+thick, max(r.W-thick, 0)
		}
		sizes = sizes[row:]
	}
	return out
}

// worst is the worst ratio of sides in a row of areas from most to least.
func worst(most, least, sum, side float64) float64 {
	if least <= 0 || sum <= 0 || side <= 0 {
		return 1e30
	}
	square := side * side
	return max(square*most/(sum*sum), sum*sum/(square*least))
}
