// Corners and fractions of bilinear samples, with zeros outside the image.
#pragma once

#include <cstdint>

#include "common/simd.h"

namespace amodal2 {

// One axis of a vector of sampled points.
template <typename T, int kBytes>
struct BilinearAxis {
  typename Vector<T, kBytes>::Integers low;              // pixel before the point
  typename Vector<T, kBytes>::Integers low_in, high_in;  // masks: it, the next one, is inside
  typename Vector<T, kBytes>::type fraction;  // from it to the next, NaN if the point is not finite
};

// Splits coordinates in units of the image, in which pixel i of an axis of `size` pixels has its
// centre at (i + 0.5) / size, into pixel and fraction.
template <typename T, int kBytes>
AMODAL2_INLINE BilinearAxis<T, kBytes> split_axis(
    const typename Vector<T, kBytes>::type& unit,
    const typename Vector<T, kBytes>::Integers& size) {
  typedef typename Vector<T, kBytes>::type V;
  typedef typename Vector<T, kBytes>::Integers I;
  const V extent = __builtin_convertvector(size, V);
  const V pixel = unit * extent - T(0.5);
  // Bounded so that the conversion is defined; both comparisons are false for NaN.
  const V lowest = V{} - T(2), highest = extent + T(1);
  const V above = pixel > lowest ? pixel : lowest;
  const V bounded = above < highest ? above : highest;
  I low = __builtin_convertvector(bounded, I);           // rounds towards zero,
  low += __builtin_convertvector(low, V) > bounded;      // a true comparison is -1
  BilinearAxis<T, kBytes> axis;
  axis.low = low;
  axis.low_in = (low >= 0) & (low < size);
  axis.high_in = (low >= -1) & (low < size - 1);
  axis.fraction = bounded - __builtin_convertvector(low, V) + (pixel - pixel);
  return axis;
}

}  // namespace amodal2
