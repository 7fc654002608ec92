#include "sha256.h"

#include <algorithm>
#include <cstring>

#ifdef __x86_64__
#include <cpuid.h>
#include <immintrin.h>
#endif

namespace cpp_host {
namespace {

alignas(16) constexpr uint32_t kConstants[64] = {
    0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5, 0xd807aa98, 0x12835b01,
    0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174, 0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc,
    0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da, 0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147,
    0x06ca6351, 0x14292967, 0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
    0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070, 0x19a4c116, 0x1e376c08,
    0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3, 0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208,
    0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2};

uint32_t turned(uint32_t word, int bits) { return word >> bits | word << (32 - bits); }

void compress_portably(uint32_t* state, const uint8_t* block, size_t count) {
  for (; count > 0; --count, block += 64) {
    uint32_t words[64];
    for (int i = 0; i < 16; ++i) {
      words[i] = uint32_t{block[4 * i]} << 24 | uint32_t{block[4 * i + 1]} << 16 | uint32_t{block[4 * i + 2]} << 8 |
                 uint32_t{block[4 * i + 3]};
    }
    for (int i = 16; i < 64; ++i) {
      const uint32_t low = turned(words[i - 15], 7) ^ turned(words[i - 15], 18) ^ words[i - 15] >> 3;
      const uint32_t high = turned(words[i - 2], 17) ^ turned(words[i - 2], 19) ^ words[i - 2] >> 10;
      words[i] = words[i - 16] + low + words[i - 7] + high;
    }
    uint32_t a = state[0], b = state[1], c = state[2], d = state[3], e = state[4], f = state[5], g = state[6], h = state[7];
    for (int i = 0; i < 64; ++i) {
      const uint32_t first = h + (turned(e, 6) ^ turned(e, 11) ^ turned(e, 25)) + ((e & f) ^ (~e & g)) + kConstants[i] + words[i];
      const uint32_t second = (turned(a, 2) ^ turned(a, 13) ^ turned(a, 22)) + ((a & b) ^ (a & c) ^ (b & c));
      h = g, g = f, f = e, e = d + first, d = c, c = b, b = a, a = first + second;
    }
    const uint32_t added[8] = {a, b, c, d, e, f, g, h};
    for (int i = 0; i < 8; ++i) state[i] += added[i];
  }
}

#ifdef __x86_64__
// Source: Intel, "Intel SHA Extensions", 2013.
__attribute__((target("sha,sse4.1"))) void compress_by_instructions(uint32_t* state, const uint8_t* block, size_t count) {
  const __m128i big_endian = _mm_set_epi64x(0x0c0d0e0f08090a0b, 0x0405060700010203);
  auto* const saved = reinterpret_cast<__m128i*>(state);
  __m128i low = _mm_shuffle_epi32(_mm_loadu_si128(saved), 0xB1), high = _mm_shuffle_epi32(_mm_loadu_si128(saved + 1), 0x1B);
  __m128i abef = _mm_alignr_epi8(low, high, 8), cdgh = _mm_blend_epi16(high, low, 0xF0);
  for (; count > 0; --count, block += 64) {
    const __m128i abef_before = abef, cdgh_before = cdgh;
    __m128i words[4];
    for (int i = 0; i < 4; ++i) {
      words[i] = _mm_shuffle_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(block) + i), big_endian);
    }
    for (int i = 0; i < 16; ++i) {
      __m128i& oldest = words[i % 4];
      const __m128i newest = words[(i + 3) % 4];
      const __m128i sum = _mm_add_epi32(oldest, _mm_load_si128(reinterpret_cast<const __m128i*>(kConstants) + i));
      cdgh = _mm_sha256rnds2_epu32(cdgh, abef, sum);
      abef = _mm_sha256rnds2_epu32(abef, cdgh, _mm_shuffle_epi32(sum, 0x0E));
      const __m128i part = _mm_add_epi32(
          _mm_sha256msg1_epu32(oldest, words[(i + 1) % 4]), _mm_alignr_epi8(newest, words[(i + 2) % 4], 4));
      oldest = _mm_sha256msg2_epu32(part, newest);
    }
    abef = _mm_add_epi32(abef, abef_before), cdgh = _mm_add_epi32(cdgh, cdgh_before);
  }
  low = _mm_shuffle_epi32(abef, 0x1B), high = _mm_shuffle_epi32(cdgh, 0xB1);
  _mm_storeu_si128(saved, _mm_blend_epi16(low, high, 0xF0));
  _mm_storeu_si128(saved + 1, _mm_alignr_epi8(high, low, 8));
}
#endif

}  // namespace

bool has_sha_instructions() {
#ifdef __x86_64__
  unsigned a = 0, b = 0, c = 0, d = 0;
  const bool has_sse41 = __get_cpuid(1, &a, &b, &c, &d) != 0 && (c & bit_SSE4_1) != 0;
  constexpr unsigned kSha = 1U << 29;
  return has_sse41 && __get_cpuid_count(7, 0, &a, &b, &c, &d) != 0 && (b & kSha) != 0;
#else
  return false;
#endif
}

Sha256::Sha256(bool with_instructions)
    : with_instructions_(with_instructions && has_sha_instructions()),
      state_{0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a, 0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19} {}

void Sha256::compress(const uint8_t* blocks, size_t count) {
#ifdef __x86_64__
  if (with_instructions_) return compress_by_instructions(state_.data(), blocks, count);
#endif
  compress_portably(state_.data(), blocks, count);
}

void Sha256::add(const uint8_t* data, size_t size) {
  bytes_ += size;
  if (rest_size_ > 0) {
    const size_t taken = std::min(size, kBlock - rest_size_);
    std::memcpy(rest_.data() + rest_size_, data, taken);
    rest_size_ += taken, data += taken, size -= taken;
    if (rest_size_ < kBlock) return;
    compress(rest_.data(), 1);
  }
  compress(data, size / kBlock);
  rest_size_ = size % kBlock;
  if (rest_size_ > 0) std::memcpy(rest_.data(), data + size - rest_size_, rest_size_);
}

std::string Sha256::digest() {
  const uint64_t bits = 8 * bytes_;
  constexpr uint8_t kEnd[kBlock] = {0x80};
  add(kEnd, 1 + (2 * kBlock - 9 - rest_size_) % kBlock);
  uint8_t size[8];
  for (int i = 0; i < 8; ++i) size[i] = static_cast<uint8_t>(bits >> (56 - 8 * i));
  add(size, sizeof size);
  std::string text;
  for (const uint32_t word : state_) {
    for (int shift = 28; shift >= 0; shift -= 4) text += "0123456789abcdef"[word >> shift & 15];
  }
  return text;
}

}  // namespace cpp_host
