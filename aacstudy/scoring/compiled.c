/* Losses of a prefix tree's captions on one clip, in bfloat16 products with float32 sums.

Every product goes through `tile`: 8 rows times a panel of 32 columns, both operands read in pairs along k, as the
processor's VDPBF16PS wants them. States between sublayers, logits and sums are never rounded.
*/

#include <immintrin.h>
#include <math.h>
#include <stdint.h>
#include <string.h>

#define ROWS 8     /* of a tile: 16 sums stay in registers */
#define COLUMNS 32 /* of a panel */
#define BLOCK 128  /* rows that go through a feed-forward block together, so that they stay in the second-level cache */
/* QUERIES, rows of a group, comes from trie.py */

typedef uint16_t bf16;

typedef struct { /* a matrix packed in panels: [ceil(n / 32), k / 2, 32, 2]; bias padded to whole panels */
    const bf16 *weight;
    const float *bias;
    int64_t k, n;
} Linear;

typedef struct {
    Linear qkv, own, query, cross, up, down;
    const float *scale[3], *shift[3]; /* of the three layer norms */
    float eps[3];
} Layer;

typedef struct {
    int64_t d, heads, ff, layers, vocabulary;
    const Layer *layer;
    Linear classifier;
} Model;

typedef struct { /* groups of equally many keys */
    int64_t groups, keys;
    const int64_t *key;   /* [groups, keys] rows */
    const uint32_t *seen; /* [groups, QUERIES, keys / 32] bits */
} Groups;

typedef struct {
    int64_t rows, kinds, edges;
    const float *state; /* [rows, d] after the first self-attention */
    const Groups *kind;
    const int64_t *node, *token; /* [edges], nodes ascending */
} Tree;

typedef struct { /* per layer and head: keys packed [frames, d / heads] as a matrix, values packed transposed */
    int64_t frames, padded;
    const bf16 *key, *value; /* [layers, heads, ...] */
} Clip;

static inline int64_t up_to(int64_t n, int64_t multiple) { return (n + multiple - 1) / multiple * multiple; }

/* sum[r][.] = a[r] . panel */
static inline __attribute__((always_inline)) void tile(const bf16 *a, int64_t lda, const bf16 *panel, int64_t pairs, __m512 sum[ROWS][2]) {
    for (int r = 0; r < ROWS; r++) sum[r][0] = sum[r][1] = _mm512_setzero_ps();
    for (int64_t p = 0; p < pairs; p++, panel += 2 * COLUMNS) {
        __m512bh left = (__m512bh)_mm512_loadu_si512(panel), right = (__m512bh)_mm512_loadu_si512(panel + COLUMNS);
        for (int r = 0; r < ROWS; r++) {
            int32_t pair;
            memcpy(&pair, a + r * lda + 2 * p, sizeof pair);
            __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
            sum[r][0] = _mm512_dpbf16_ps(sum[r][0], both, left);
            sum[r][1] = _mm512_dpbf16_ps(sum[r][1], both, right);
        }
    }
}

static inline __m512bh round_pair(__m512 low, __m512 high) { return _mm512_cvtne2ps_pbh(high, low); }

/* x Phi(x), within 5e-5: an odd polynomial for Phi - 1/2 on [-4.25, 4.25], beyond that Phi is 0 or 1 */
static inline __m512 gelu(__m512 x) {
    static const float c[] = {0.398819208f, -0.0661902618f, 0.00971876704f, -0.00107907447f, 8.84885592e-05f, -5.14745754e-06f, 1.98612732e-07f, -4.51520824e-09f, 4.54695307e-11f};
    __m512 z = _mm512_min_ps(_mm512_max_ps(x, _mm512_set1_ps(-4.25f)), _mm512_set1_ps(4.25f));
    __m512 u = _mm512_mul_ps(z, z), p = _mm512_set1_ps(c[8]);
    for (int i = 7; i >= 0; i--) p = _mm512_fmadd_ps(p, u, _mm512_set1_ps(c[i]));
    __m512 share = _mm512_fmadd_ps(z, p, _mm512_set1_ps(0.5f));
    share = _mm512_mask_mov_ps(share, _mm512_cmp_ps_mask(x, _mm512_set1_ps(-4.25f), _CMP_LT_OQ), _mm512_setzero_ps());
    share = _mm512_mask_mov_ps(share, _mm512_cmp_ps_mask(x, _mm512_set1_ps(4.25f), _CMP_GT_OQ), _mm512_set1_ps(1.f));
    return _mm512_mul_ps(x, share);
}

/* e^x for x <= 0, within 2e-7 of its value; 0 for minus infinity; NaN stays, as a maximum's second operand does */
static inline __m512 exponential(__m512 x) {
    __m512 n = _mm512_roundscale_ps(_mm512_mul_ps(x, _mm512_set1_ps(1.44269504f)), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    n = _mm512_max_ps(_mm512_set1_ps(-150.f), n);
    x = _mm512_max_ps(_mm512_set1_ps(-104.f), x);
    __m512 r = _mm512_fnmadd_ps(n, _mm512_set1_ps(0.693359375f), x);
    r = _mm512_fnmadd_ps(n, _mm512_set1_ps(-2.12194440e-4f), r);
    __m512 p = _mm512_set1_ps(1.9875691500e-4f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.3981999507e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(8.3334519073e-3f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(4.1665795894e-2f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(1.6666665459e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(5.0000001201e-1f));
    p = _mm512_fmadd_ps(_mm512_mul_ps(r, r), p, _mm512_add_ps(r, _mm512_set1_ps(1.f)));
    return _mm512_scalef_ps(p, n);
}

enum { FLOATS, ROUNDED, GELU };

/* rows [multiple of 8, k] times a packed matrix; out has columns in whole panels */
static inline __attribute__((always_inline)) void product(const bf16 *a, int64_t lda, int64_t rows, Linear by, void *out, int64_t ldo, int kind) {
    for (int64_t n = 0; n < by.n; n += COLUMNS) {
        const bf16 *panel = by.weight + n * by.k;
        __m512 left = _mm512_loadu_ps(by.bias + n), right = _mm512_loadu_ps(by.bias + n + 16);
        for (int64_t row = 0; row < rows; row += ROWS) {
            __m512 sum[ROWS][2];
            tile(a + row * lda, lda, panel, by.k / 2, sum);
            for (int r = 0; r < ROWS; r++) {
                __m512 low = _mm512_add_ps(sum[r][0], left), high = _mm512_add_ps(sum[r][1], right);
                if (kind == FLOATS) {
                    float *to = (float *)out + (row + r) * ldo + n;
                    _mm512_storeu_ps(to, low);
                    _mm512_storeu_ps(to + 16, high);
                } else {
                    if (kind == GELU) low = gelu(low), high = gelu(high);
                    _mm512_storeu_si512((bf16 *)out + (row + r) * ldo + n, (__m512i)round_pair(low, high));
                }
            }
        }
    }
}

/* x = norm(x + y), and rounded; d columns of rows that are ld apart */
static void add_norm(float *x, const float *y, bf16 *rounded, int64_t rows, int64_t d, int64_t ld, const float *scale, const float *shift, float eps) {
    for (int64_t row = 0; row < rows; row++, x += ld, y += ld, rounded += ld) {
        __m512 sum = _mm512_setzero_ps(), squares = _mm512_setzero_ps();
        for (int64_t i = 0; i < ld; i += 16) {
            __m512 v = _mm512_add_ps(_mm512_loadu_ps(x + i), _mm512_loadu_ps(y + i));
            _mm512_storeu_ps(x + i, v);
            sum = _mm512_add_ps(sum, v);
        }
        float mean = _mm512_reduce_add_ps(sum) / d; /* columns behind d are 0 */
        for (int64_t i = 0; i < ld; i += 16) {
            __mmask16 in = d - i >= 16 ? 0xffff : d > i ? (1 << (d - i)) - 1 : 0;
            __m512 v = _mm512_maskz_sub_ps(in, _mm512_loadu_ps(x + i), _mm512_set1_ps(mean));
            squares = _mm512_fmadd_ps(v, v, squares);
        }
        float factor = 1 / sqrtf(_mm512_reduce_add_ps(squares) / d + eps);
        for (int64_t i = 0; i < ld; i += 16) { /* scale and shift behind d are 0 */
            __m512 v = _mm512_mul_ps(_mm512_sub_ps(_mm512_loadu_ps(x + i), _mm512_set1_ps(mean)), _mm512_set1_ps(factor));
            v = _mm512_fmadd_ps(v, _mm512_loadu_ps(scale + i), _mm512_loadu_ps(shift + i));
            _mm512_storeu_ps(x + i, v);
            _mm256_storeu_si256((__m256i *)(rounded + i), (__m256i)_mm512_cvtneps_pbh(v));
        }
    }
}

/* 8 queries of one head on packed keys and values; seen: bits of the keys [8, padded / 32], or all below `frames` */
static inline __attribute__((always_inline)) void attend(const bf16 *query, int64_t ldq, int64_t d, const bf16 *key, const bf16 *value, int64_t padded, int64_t frames, const uint32_t *seen,
                   float *scores, bf16 *shares, bf16 *out, int64_t ldo) {
    __m512 most[ROWS], total[ROWS];
    for (int r = 0; r < ROWS; r++) most[r] = _mm512_set1_ps(-INFINITY), total[r] = _mm512_setzero_ps();
    for (int64_t t = 0; t < padded; t += COLUMNS) {
        __m512 sum[ROWS][2];
        tile(query, ldq, key + t * d, d / 2, sum);
        for (int r = 0; r < ROWS; r++) {
            uint32_t bits = seen ? seen[r * (padded / 32) + t / 32] : frames - t >= 32 ? 0xffffffffu : (1u << (frames - t)) - 1;
            __m512 low = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), bits, sum[r][0]);
            __m512 high = _mm512_mask_mov_ps(_mm512_set1_ps(-INFINITY), bits >> 16, sum[r][1]);
            _mm512_storeu_ps(scores + r * padded + t, low);
            _mm512_storeu_ps(scores + r * padded + t + 16, high);
            most[r] = _mm512_max_ps(most[r], _mm512_max_ps(low, high));
        }
    }
    float share[ROWS];
    for (int r = 0; r < ROWS; r++) {
        __m512 top = _mm512_set1_ps(_mm512_reduce_max_ps(most[r]));
        for (int64_t t = 0; t < padded; t += 32) {
            __m512 low = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + r * padded + t), top));
            __m512 high = exponential(_mm512_sub_ps(_mm512_loadu_ps(scores + r * padded + t + 16), top));
            total[r] = _mm512_add_ps(total[r], _mm512_add_ps(low, high));
            _mm512_storeu_si512(shares + r * padded + t, (__m512i)round_pair(low, high));
        }
        share[r] = 1 / _mm512_reduce_add_ps(total[r]);
    }
    for (int64_t n = 0; n < d; n += COLUMNS) {
        __m512 sum[ROWS][2];
        tile(shares, padded, value + n * padded, padded / 2, sum);
        __mmask32 in = d - n >= 32 ? 0xffffffffu : (1u << (d - n)) - 1;
        for (int r = 0; r < ROWS; r++) {
            __m512 by = _mm512_set1_ps(share[r]);
            __m512bh both = round_pair(_mm512_mul_ps(sum[r][0], by), _mm512_mul_ps(sum[r][1], by));
            _mm512_mask_storeu_epi16(out + r * ldo + n, in, (__m512i)both);
        }
    }
}

/* keys and values of one group and head, packed as a Linear would be */
static void gather(const bf16 *qkv, int64_t ld, int64_t width, int64_t column, int64_t d, const int64_t *rows, int64_t keys, bf16 *key, bf16 *value) {
    int64_t padded = up_to(d, COLUMNS);
    for (int64_t t = 0; t < keys; t++) {
        const bf16 *from = qkv + rows[t] * ld + width + column;
        int32_t *to = (int32_t *)(key + t / COLUMNS * COLUMNS * d) + t % COLUMNS;
        for (int64_t p = 0; p < d / 2; p++) memcpy(to + p * COLUMNS, from + 2 * p, sizeof *to);
    }
    const __m512i even = _mm512_set_epi16(47, 15, 46, 14, 45, 13, 44, 12, 43, 11, 42, 10, 41, 9, 40, 8, 39, 7, 38, 6, 37, 5, 36, 4, 35, 3, 34, 2, 33, 1, 32, 0);
    const __m512i odd = _mm512_add_epi16(even, _mm512_set1_epi16(16));
    for (int64_t t = 0; t < keys; t += 2) {
        const bf16 *one = qkv + rows[t] * ld + 2 * width + column, *other = qkv + rows[t + 1] * ld + 2 * width + column;
        for (int64_t n = 0; n < padded; n += COLUMNS) {
            __mmask32 in = d - n >= 32 ? 0xffffffffu : (1u << (d - n)) - 1;
            __m512i a = _mm512_maskz_loadu_epi16(in, one + n), b = _mm512_maskz_loadu_epi16(in, other + n);
            bf16 *to = value + n * keys + t * COLUMNS;
            _mm512_storeu_si512(to, _mm512_permutex2var_epi16(a, even, b));
            _mm512_storeu_si512(to + COLUMNS, _mm512_permutex2var_epi16(a, odd, b));
        }
    }
}

static void attend_own(const Tree *tree, const Model *m, const bf16 *qkv, int64_t ld, bf16 *out, int64_t ldo, char *work) {
    int64_t d = m->d / m->heads, row = 0;
    for (int64_t i = 0; i < tree->kinds; i++) {
        Groups g = tree->kind[i];
        float *scores = (float *)work;
        bf16 *shares = (bf16 *)(scores + ROWS * g.keys), *key = shares + ROWS * g.keys, *value = key + g.keys * d;
        for (int64_t group = 0; group < g.groups; group++, row += QUERIES)
            for (int64_t h = 0; h < m->heads; h++) {
                gather(qkv, ld, m->d, h * d, d, g.key + group * g.keys, g.keys, key, value);
                for (int64_t r = 0; r < QUERIES; r += ROWS)
                    attend(qkv + (row + r) * ld + h * d, ld, d, key, value, g.keys, 0, g.seen + (group * QUERIES + r) * (g.keys / 32),
                           scores, shares, out + (row + r) * ldo + h * d, ldo);
            }
    }
}

/* Bytes that `losses` needs to work in. */
int64_t workspace(const Model *m, int64_t rows, int64_t padded, int64_t most_keys) {
    int64_t ld = up_to(m->d, COLUMNS), wide = up_to(3 * m->d, COLUMNS), ff = up_to(m->ff, COLUMNS), v = up_to(m->vocabulary, COLUMNS);
    int64_t attention = up_to(most_keys > padded ? most_keys : padded, COLUMNS) * (ROWS * 6 + 4 * up_to(m->d / m->heads, COLUMNS));
    return rows * (ld * 8 + wide * 2) + BLOCK * (ld * 8 + ff * 2) + COLUMNS * v * 4 + attention + 16 * 64;
}

static char *take(char **work, int64_t bytes) {
    char *taken = *work;
    *work += up_to(bytes, 64);
    return taken;
}

/* Losses of every edge, in nats; label smoothing shares out part of the target among all words. */
void losses(const Model *m, const Tree *tree, const Clip *clip, float smoothing, float *loss, char *work) {
    int64_t ld = up_to(m->d, COLUMNS), wide = up_to(3 * m->d, COLUMNS), ff = up_to(m->ff, COLUMNS), v = up_to(m->vocabulary, COLUMNS);
    int64_t rows = tree->rows, d = m->d / m->heads, key_size = clip->padded * d, value_size = clip->padded * up_to(d, COLUMNS);
    float *x = (float *)take(&work, rows * ld * 4), *y = (float *)take(&work, BLOCK * ld * 4), *logits = (float *)take(&work, COLUMNS * v * 4);
    bf16 *rounded = (bf16 *)take(&work, rows * ld * 2), *heard = (bf16 *)take(&work, rows * ld * 2), *query = (bf16 *)take(&work, BLOCK * ld * 2);
    bf16 *qkv = (bf16 *)take(&work, rows * wide * 2), *hidden = (bf16 *)take(&work, BLOCK * ff * 2);
    memset(x, 0, rows * ld * 4);
    memset(heard, 0, rows * ld * 2);
    for (int64_t row = 0; row < rows; row++) {
        memcpy(x + row * ld, tree->state + row * m->d, m->d * 4);
        for (int64_t i = 0; i < ld; i += 16)
            _mm256_storeu_si256((__m256i *)(rounded + row * ld + i), (__m256i)_mm512_cvtneps_pbh(_mm512_loadu_ps(x + row * ld + i)));
    }
    for (int64_t l = 0; l < m->layers; l++) {
        const Layer *layer = m->layer + l;
        if (l) {
            for (int64_t row = 0; row < rows; row += BLOCK)
                product(rounded + row * ld, ld, rows - row < BLOCK ? rows - row : BLOCK, layer->qkv, qkv + row * wide, wide, ROUNDED);
            attend_own(tree, m, qkv, wide, heard, ld, work);
        }
        for (int64_t row = 0; row < rows; row += BLOCK) {
            int64_t count = rows - row < BLOCK ? rows - row : BLOCK;
            float *at = x + row * ld;
            bf16 *low = rounded + row * ld, *from = heard + row * ld;
            if (l) {
                product(from, ld, count, layer->own, y, ld, FLOATS);
                add_norm(at, y, low, count, m->d, ld, layer->scale[0], layer->shift[0], layer->eps[0]);
            }
            product(low, ld, count, layer->query, query, ld, ROUNDED);
            float *scores = (float *)work;
            bf16 *shares = (bf16 *)(scores + ROWS * clip->padded);
            for (int64_t h = 0; h < m->heads; h++)
                for (int64_t r = 0; r < count; r += ROWS)
                    attend(query + r * ld + h * d, ld, d, clip->key + (l * m->heads + h) * key_size, clip->value + (l * m->heads + h) * value_size,
                           clip->padded, clip->frames, 0, scores, shares, from + r * ld + h * d, ld);
            product(from, ld, count, layer->cross, y, ld, FLOATS);
            add_norm(at, y, low, count, m->d, ld, layer->scale[1], layer->shift[1], layer->eps[1]);
            product(low, ld, count, layer->up, hidden, ff, GELU);
            product(hidden, ff, count, layer->down, y, ld, FLOATS);
            add_norm(at, y, low, count, m->d, ld, layer->scale[2], layer->shift[2], layer->eps[2]);
        }
    }
    int64_t edge = 0;
    for (int64_t row = 0; row < rows; row += COLUMNS) {
        int64_t count = rows - row < COLUMNS ? rows - row : COLUMNS;
        product(rounded + row * ld, ld, count, m->classifier, logits, v, FLOATS);
        for (int64_t r = 0; r < count; r++) {
            if (edge >= tree->edges || tree->node[edge] != row + r) continue;
            const float *z = logits + r * v;
            __m512 most = _mm512_set1_ps(-INFINITY), total = _mm512_setzero_ps(), all = _mm512_setzero_ps();
            for (int64_t i = 0; i < v; i += 16) most = _mm512_max_ps(most, _mm512_loadu_ps(z + i));
            float top = _mm512_reduce_max_ps(most);
            for (int64_t i = 0; i < v; i += 16) {
                __m512 at = _mm512_sub_ps(_mm512_loadu_ps(z + i), _mm512_set1_ps(top));
                total = _mm512_add_ps(total, exponential(at));
                __mmask16 in = m->vocabulary - i >= 16 ? 0xffff : m->vocabulary > i ? (1 << (m->vocabulary - i)) - 1 : 0;
                all = _mm512_mask_add_ps(all, in, all, at);
            }
            float whole = logf(_mm512_reduce_add_ps(total)), mean = _mm512_reduce_add_ps(all) / m->vocabulary;
            for (; edge < tree->edges && tree->node[edge] == row + r; edge++) {
                loss[edge] = whole - (z[tree->token[edge]] - top);
                if (smoothing != 0) /* or a word that cannot be said, of logit minus infinity, would make it NaN */
                    loss[edge] = (1 - smoothing) * loss[edge] + smoothing * (whole - mean);
            }
        }
    }
}
