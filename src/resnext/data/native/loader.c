/* Batches of JPEG files -> one N x S x S x 3 array, of bytes or of floats, on a pool of threads.
 *
 * Per image, in one thread, while its rows are still in cache: read the file, parse its header,
 * refuse what is not for us, draw the crop, decode only the window of the crop, resize row by row,
 * write. What this file refuses (another format, CMYK, damage, sizes above the limits) gets a status
 * of its own and zeros in the array; the caller may decode it by other means. One bad image never
 * harms the others, whatever its bytes.
 *
 * Needs libjpeg-turbo's plain API (jpeglib.h) and POSIX threads; no Python.h: it is called through
 * ctypes, which lets go of the interpreter during a call. `library.py` mirrors every struct and enum.
 *
 * Partial decoding in libjpeg-turbo has had a tail of bugs. All versions decode rightly when asked
 * in this way, and nothing else is done here: a fresh decompress object per image, smooth chroma
 * upsampling, at most one crop, wider than needed since its edge columns lack their neighbours'
 * chroma, at most one skip, from row 0, then reading forward, and destroying the object.
 *
 * Bytes come from arithmetic on integers; floats and draws from operations that IEEE 754 rounds in
 * one way only (compile with -ffp-contract=off). So every machine and thread count makes the same.
 */
#define _POSIX_C_SOURCE 200809L

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jerror.h>
#include <jpeglib.h>

#ifndef LIBJPEG_TURBO_VERSION_NUMBER
#error "this is not libjpeg-turbo: decoding a window of an image needs its jpeg_crop_scanline"
#endif

#if defined(__SSE2__) && !defined(RESNEXT_PORTABLE)
#include <immintrin.h>
#define HAVE_SSE2 1
#if defined(__x86_64__) && !defined(RESNEXT_WITHOUT_AVX2)
#define HAVE_AVX2 1 /* in functions of their own, which run where __builtin_cpu_supports says so */
#define FOR_AVX2 __attribute__((target("avx2")))
#endif
#endif

/* Compiled twice, the second time for AVX2, and chosen between when the library is loaded. The
 * instructions are wider and the results the same: neither version fuses a multiplication with an
 * addition. Sanitizers are not ready yet when that choice is made. */
#if defined(HAVE_AVX2) && defined(__GLIBC__) && defined(__GNUC__) && !defined(__clang__) && \
    !defined(__SANITIZE_ADDRESS__)
#define ALSO_FOR_AVX2 __attribute__((target_clones("avx2", "default")))
#else
#define ALSO_FOR_AVX2
#endif

#define PUBLIC __attribute__((visibility("default")))

enum { INTERFACE = 3 }; /* raise when a struct, an enum or a function below changes */

/* ---- What the caller passes; see library.py ------------------------------------------------- */

typedef enum {
    OK = 0,
    EMPTY = 1,           /* no bytes */
    NOT_JPEG = 2,        /* by its first bytes, not by its name */
    COLOURS = 3,         /* JPEG, but not 1 or 3 components of 8 bits: CMYK, 12 bits, ... */
    TOO_MANY_PIXELS = 4, /* by its header, before decoding */
    TOO_MANY_BYTES = 5,
    TOO_MANY_SCANS = 6, /* progressive beyond reason: each scan is a pass over the whole image */
    CORRUPT = 7,        /* libjpeg gave up */
    UNREADABLE = 8,     /* an error, the file ended early, or it is no regular file */
    BAD_CUT = 9,        /* the given box does not lie in the image */
    NO_MEMORY = 10
} Status;

typedef enum {
    GIVEN = 0,               /* boxes in `cuts` */
    TRAIN_TORCHVISION = 1,   /* drawn: RandomResizedCrop and a mirror image in half the cases */
    TRAIN_TORCH7 = 2,        /* drawn: RandomSizedCrop of the authors' code, mirror likewise */
    CENTRAL_TORCHVISION = 3, /* shorter side to `resize`, then the central square */
    CENTRAL_TORCH7 = 4
} Rule;

typedef enum {
    BILINEAR = 0, /* Pillow's, with antialias: bytes */
    TORCH7 = 1,   /* Torch's bicubic, without antialias: floats, 1 for white; by its rules only */
    NOTHING = 2   /* decode the rows that BILINEAR needs, write none: what a benchmark compares */
} Resample;

/* One encoded image: in memory, or a file, or a part of a file. */
typedef struct {
    const uint8_t *bytes; /* or NULL */
    const char *path;     /* or NULL: `file` is an open descriptor */
    int64_t offset;       /* where the image starts in the file */
    int64_t size;         /* its bytes; -1: up to the end of the file */
    int64_t file;
} Source;

/* What becomes the output image: a box in pixels of the source, x to the right and y down. */
typedef struct {
    double x, y, width, height;
    int32_t mirrored;
    int32_t beyond; /* the filter may look at the pixels around the box, as when an image is resized
                       first and cropped then; otherwise the box is cropped first */
} Cut;

typedef struct {
    int32_t status;
    int32_t warnings; /* how often libjpeg met damage and went on */
} Outcome;

/* What the images of one batch have in common. */
typedef struct {
    uint64_t seed, epoch, purpose; /* which stream of draws */
    int64_t max_pixels, max_bytes;
    int32_t rule;
    int32_t resample;
    int32_t side;    /* S */
    int32_t resize;  /* for the central rules */
    int32_t threads; /* at most; 0: all of the pool */
} Request;

/* ---- Memory that a thread keeps from image to image ----------------------------------------- */

enum { ALIGNMENT = 64, KEPT_BYTES = 32 << 20 };

typedef struct {
    void *data;
    size_t capacity;
} Buffer;

/* At least `size` bytes, contents undefined; NULL without memory. */
static void *reserve(Buffer *buffer, size_t size) {
#ifdef __SANITIZE_ADDRESS__ /* exact and new each time, or it would not see a byte too far */
    free(buffer->data);
    buffer->data = malloc(size);
    buffer->capacity = size;
#else
    if (buffer->capacity >= size && buffer->data != NULL) return buffer->data;
    size_t capacity = (size + size / 4 + ALIGNMENT) / ALIGNMENT * ALIGNMENT;
    free(buffer->data);
    buffer->data = aligned_alloc(ALIGNMENT, capacity);
    buffer->capacity = buffer->data == NULL ? 0 : capacity;
#endif
    return buffer->data;
}

static void let_go(Buffer *buffer) {
    free(buffer->data);
    *buffer = (Buffer){0};
}

/* One large image must not hold its memory for the rest of the run. */
static void trim(Buffer *buffer) {
    if (buffer->capacity > KEPT_BYTES) let_go(buffer);
}

/* How each output row (or column) is a weighted sum of `taps` source rows, from `first` on. */
typedef struct {
    int taps;           /* even, those beyond the source's end have weight 0 */
    int begin, end;     /* all source rows with a weight */
    Buffer firsts;      /* int32, one per output */
    Buffer weights;     /* int16 in units of 2^-14, `taps` per output, adding up to exactly 2^14 */
    Buffer exact;       /* double, `taps` */
} Axis;

/* Which source pixels Torch7 makes an output pixel of: the one at `at`, its neighbour on the left
 * and two on the right; and how far from the first to the second of those it lies, in [0, 1). */
typedef struct {
    int32_t at;
    float x;
} Place;

/* The places of all output pixels along one direction, counted from the first that is resized. */
typedef struct {
    int64_t origin, count; /* the source pixels that are resized */
    int64_t begin, end;    /* those of them that are read */
    Buffer places;
} Line;

typedef struct {
    struct jpeg_decompress_struct jpeg;
    struct jpeg_error_mgr errors;
    struct jpeg_progress_mgr progress;
    jmp_buf escape;
    Status status;
    int32_t warnings;
} Decoder;

typedef struct {
    Decoder decoder;
    Buffer file;   /* the encoded image */
    Buffer window; /* the last few decoded rows, RGBX, as a ring */
    /* for BILINEAR */
    Axis columns, rows;
    Buffer sources; /* pointers to the decoded rows that the next output row needs */
    Buffer blended; /* their weighted sum, one row of int16 in units of 2^-6 */
    /* for TORCH7 */
    Line across, down;
    Buffer floats;  /* one decoded row, RGBX in [0, 1] */
    Buffer resized; /* the last few rows at the output's width, as a ring; rows to work with */
} Worker;

static void clear_worker(Worker *worker) {
    Buffer *buffers[] = {&worker->file,          &worker->window,          &worker->sources,
                         &worker->blended,       &worker->columns.firsts,  &worker->columns.weights,
                         &worker->columns.exact, &worker->rows.firsts,     &worker->rows.weights,
                         &worker->rows.exact,    &worker->across.places,   &worker->down.places,
                         &worker->floats,        &worker->resized};
    for (size_t i = 0; i < sizeof buffers / sizeof *buffers; i++) let_go(buffers[i]);
}

/* ---- Draws: bit for bit those of draws.py --------------------------------------------------- */

__extension__ typedef unsigned __int128 Wide;

/* Philox4x64-10, the counter-based generator of Salmon et al. (2011), as NumPy has it. */
static void philox(uint64_t seed, uint64_t epoch, const uint64_t counter[4], uint64_t words[4]) {
    memcpy(words, counter, 4 * sizeof *words);
    for (int round = 0; round < 10; round++) {
        Wide a = (Wide)words[0] * UINT64_C(0xD2E7470EE14C6C93);
        Wide b = (Wide)words[2] * UINT64_C(0xCA5A826395121157);
        uint64_t w0 = (uint64_t)(b >> 64) ^ words[1] ^ seed;
        uint64_t w2 = (uint64_t)(a >> 64) ^ words[3] ^ epoch;
        words[0] = w0, words[1] = (uint64_t)b, words[2] = w2, words[3] = (uint64_t)a;
        seed += UINT64_C(0x9E3779B97F4A7C15);
        epoch += UINT64_C(0xBB67AE8584CAA73B);
    }
}

/* The `group`th eight uniform numbers in [0, 1) of the image's stream. */
static void uniforms(const Request *request, uint64_t index, uint64_t group, double *numbers) {
    for (uint64_t block = 2 * group; block < 2 * group + 2; block++, numbers += 4) {
        /* NumPy counts up before its first block. */
        uint64_t counter[4] = {block + 1, 0, index, request->purpose}, words[4];
        philox(request->seed, request->epoch, counter, words);
        for (int i = 0; i < 4; i++) numbers[i] = (double)(words[i] >> 11) * 0x1p-53;
    }
}

/* exp, for |x| < 0.3, rounded alike everywhere; the C libraries' own differ in the last bit. */
static double small_exp(double x) {
    double sum = 1.0;
    for (int k = 13; k > 0; k--) sum = 1.0 + x * sum / k;
    return sum;
}

static double round_even(double x) { return nearbyint(x); }
static double round_up(double x) { return floor(x + 0.5); }

typedef struct {
    int64_t width, height;
} Size;

/* An image resized so that its shorter side is `shorter`, and where its central S x S begins. */
typedef struct {
    double width, height;
    double left, top;
} Resized;

static Resized resized(bool torch7, Size size, int shorter, int side) {
    double w = (double)size.width, h = (double)size.height;
    double long_over_short = size.width <= size.height ? h / w : w / h;
    double product = (double)shorter * (size.width <= size.height ? h : w);
    double divisor = size.width <= size.height ? w : h;
    double longer = floor(torch7 ? long_over_short * shorter : product / divisor);
    if (divisor == shorter) longer = size.width <= size.height ? h : w; /* it has that size already */
    double new_w = size.width <= size.height ? shorter : longer;
    double new_h = size.width <= size.height ? longer : shorter;
    double left = (new_w - side) / 2, top = (new_h - side) / 2;
    if (torch7) return (Resized){new_w, new_h, ceil(left), ceil(top)};
    return (Resized){new_w, new_h, round_even(left), round_even(top)};
}

static Cut central_cut(bool torch7, Size size, int shorter, int side) {
    Resized whole = resized(torch7, size, shorter, side);
    double step_x = (double)size.width / whole.width, step_y = (double)size.height / whole.height;
    return (Cut){whole.left * step_x, whole.top * step_y, side * step_x, side * step_y, 0, 1};
}

/* Whether the whole would have too many pixels, were it made as Pillow makes it: Pillow refuses. */
static bool too_large(const Request *request, Size size) {
    bool torch7 = request->rule == TRAIN_TORCH7 || request->rule == CENTRAL_TORCH7;
    int shorter = request->rule < CENTRAL_TORCHVISION ? request->side : request->resize;
    Resized whole = resized(torch7, size, shorter, request->side);
    return whole.width * whole.height > (double)request->max_pixels;
}

/* The central box, as near to the image's shape as an aspect of 3/4 to 4/3 comes. */
static Cut clipped_cut(Size size) {
    double w = (double)size.width, h = (double)size.height;
    double aspect = w / h;
    if (aspect < 3.0 / 4.0) aspect = 3.0 / 4.0;
    if (aspect > 4.0 / 3.0) aspect = 4.0 / 3.0;
    int64_t box_w = (int64_t)round_even(h * aspect), box_h = (int64_t)round_even(w / aspect);
    if (box_w > size.width) box_w = size.width;
    if (box_h > size.height) box_h = size.height;
    int64_t left = (size.width - box_w) / 2, top = (size.height - box_h) / 2;
    return (Cut){(double)left, (double)top, (double)box_w, (double)box_h, 0, 0};
}

static Cut drawn_cut(const Request *request, uint64_t index, Size size) {
    const double log_of_4_thirds = 0.28768207245178090;
    bool torch7 = request->rule == TRAIN_TORCH7;
    double area = (double)(size.width * size.height), u[8];
    uniforms(request, index, 0, u);
    int32_t mirrored = u[0] < 0.5;
    for (uint64_t attempt = 1; attempt <= 10; attempt++) {
        uniforms(request, index, attempt, u);
        double target = (0.08 + 0.92 * u[0]) * area;
        double aspect = torch7 ? 3.0 / 4.0 + u[1] * (4.0 / 3.0 - 3.0 / 4.0)
                               : small_exp((2.0 * u[1] - 1.0) * log_of_4_thirds);
        double w = sqrt(target * aspect), h = sqrt(target / aspect);
        w = torch7 ? round_up(w) : round_even(w);
        h = torch7 ? round_up(h) : round_even(h);
        if (torch7 && u[4] < 0.5) {
            double swapped = w;
            w = h, h = swapped;
        }
        double room_x = (double)size.width - w, room_y = (double)size.height - h;
        if (w >= 1 && h >= 1 && room_x >= 0 && room_y >= 0) {
            double left = floor(u[2] * (room_x + 1)), top = floor(u[3] * (room_y + 1));
            return (Cut){left, top, w, h, mirrored, 0};
        }
    }
    Cut cut = torch7 ? central_cut(true, size, request->side, request->side) : clipped_cut(size);
    cut.mirrored = mirrored;
    return cut;
}

static Cut choose_cut(const Request *request, uint64_t index, Cut given, Size size) {
    switch ((Rule)request->rule) {
    case GIVEN: return given;
    case TRAIN_TORCHVISION:
    case TRAIN_TORCH7: return drawn_cut(request, index, size);
    case CENTRAL_TORCHVISION:
    case CENTRAL_TORCH7: break;
    }
    return central_cut(request->rule == CENTRAL_TORCH7, size, request->resize, request->side);
}

/* ---- Resampling with antialias --------------------------------------------------------------- */

enum { WEIGHT_BITS = 14, BLENDED_BITS = 6 };

/* The weights of one output in `exact`; returns how many, and the first's place in `first`. */
static int triangle(double *exact, double centre, double stretch, int64_t length, int *first) {
    int64_t begin = (int64_t)(centre - stretch + 0.5), end = (int64_t)(centre + stretch + 0.5);
    if (begin < 0) begin = 0;
    if (end > length) end = length;
    if (begin > length - 1) begin = length - 1;
    if (end <= begin) end = begin + 1;
    int count = (int)(end - begin);
    double sum = 0, shrink = 1 / stretch;
    for (int k = 0; k < count; k++) {
        double distance = fabs(((double)(begin + k) - centre + 0.5) * shrink);
        exact[k] = distance < 1 ? 1 - distance : 0;
        sum += exact[k];
    }
    double share = 1 / sum;
    for (int k = 0; k < count; k++) exact[k] = sum > 0 ? exact[k] * share : 1.0 / count;
    *first = (int)begin;
    return count;
}

/* To whole units that keep their sum: what rounding takes from one weight the next one gets. */
static void to_units(const double *exact, int count, int16_t *units) {
    double owed = 0;
    for (int k = 0; k < count; k++) {
        double wanted = exact[k] * (1 << WEIGHT_BITS) + owed;
        units[k] = (int16_t)((int)(wanted + 65536.5) - 65536); /* to the nearest */
        owed = wanted - units[k];
    }
}

/* `length` source pixels, of which `extent` from `start` on become `side` output pixels. */
static bool build_axis(Axis *axis, double start, double extent, int64_t length, int side,
                       bool mirrored) {
    double step = extent / side, stretch = step > 1 ? step : 1;
    double reach = 2 * ceil(stretch) + 2;
    int taps = (int)(reach < (double)length ? reach : (double)length);
    taps += taps & 1;
    int32_t *firsts = reserve(&axis->firsts, sizeof *firsts * (size_t)side);
    int16_t *weights = reserve(&axis->weights, sizeof *weights * (size_t)side * (size_t)taps);
    double *exact = reserve(&axis->exact, sizeof *exact * ((size_t)taps + 4));
    if (firsts == NULL || weights == NULL || exact == NULL) return false;
    memset(weights, 0, sizeof *weights * (size_t)side * (size_t)taps);
    axis->begin = (int)length, axis->end = 0;
    int most = 0;
    for (int i = 0; i < side; i++) {
        int first = 0, at = mirrored ? side - 1 - i : i;
        int count = triangle(exact, start + (i + 0.5) * step, stretch, length, &first);
        to_units(exact, count, weights + (size_t)at * (size_t)taps);
        firsts[at] = first;
        if (first < axis->begin) axis->begin = first;
        if (first + count > axis->end) axis->end = first + count;
        if (count > most) most = count;
    }
    /* The bound on the taps is generous; pack them as tightly as these weights allow. */
    axis->taps = most + (most & 1);
    for (int i = 1; i < side && axis->taps < taps; i++)
        memmove(weights + (size_t)i * (size_t)axis->taps, weights + (size_t)i * (size_t)taps,
                sizeof *weights * (size_t)axis->taps);
    return true;
}

/* Spare pixels behind every row: the loops below read and write whole vectors. */
enum { SPARE = 8 };

#ifdef HAVE_AVX2
/* As blend_rows; the halves of a vector are 16 values apart until they are stored. */
FOR_AVX2 static void blend_rows_avx2(const uint8_t *const *rows, const int16_t *weights, int taps,
                                     int values, int16_t *restrict blended) {
    const int shift = WEIGHT_BITS - BLENDED_BITS;
    const __m256i zero = _mm256_setzero_si256(), rounding = _mm256_set1_epi32(1 << (shift - 1));
    for (int i = 0; i < values; i += 32) {
        __m256i a = rounding, b = rounding, c = rounding, d = rounding;
        for (int t = 0; t < taps; t += 2) {
            int32_t pair;
            memcpy(&pair, weights + t, sizeof pair);
            __m256i weight = _mm256_set1_epi32(pair);
            __m256i upper = _mm256_loadu_si256((const __m256i *)(rows[t] + i));
            __m256i lower = _mm256_loadu_si256((const __m256i *)(rows[t + 1] + i));
            __m256i left = _mm256_unpacklo_epi8(upper, lower);
            __m256i right = _mm256_unpackhi_epi8(upper, lower);
            a = _mm256_add_epi32(a, _mm256_madd_epi16(_mm256_unpacklo_epi8(left, zero), weight));
            b = _mm256_add_epi32(b, _mm256_madd_epi16(_mm256_unpackhi_epi8(left, zero), weight));
            c = _mm256_add_epi32(c, _mm256_madd_epi16(_mm256_unpacklo_epi8(right, zero), weight));
            d = _mm256_add_epi32(d, _mm256_madd_epi16(_mm256_unpackhi_epi8(right, zero), weight));
        }
        a = _mm256_srai_epi32(a, shift), b = _mm256_srai_epi32(b, shift);
        c = _mm256_srai_epi32(c, shift), d = _mm256_srai_epi32(d, shift);
        __m256i even = _mm256_packs_epi32(a, b), odd = _mm256_packs_epi32(c, d);
        __m256i first = _mm256_permute2x128_si256(even, odd, 0x20);
        __m256i second = _mm256_permute2x128_si256(even, odd, 0x31);
        _mm256_storeu_si256((__m256i *)(blended + i), first);
        _mm256_storeu_si256((__m256i *)(blended + i + 16), second);
    }
}
#endif

/* `values` weighted sums over `taps` rows, in units of 2^-6. */
static void blend_rows(const uint8_t *const *rows, const int16_t *weights, int taps, int values,
                       int16_t *restrict blended) {
    const int shift = WEIGHT_BITS - BLENDED_BITS, half = 1 << (shift - 1);
#ifdef HAVE_AVX2
    if (__builtin_cpu_supports("avx2")) {
        blend_rows_avx2(rows, weights, taps, values, blended);
        return;
    }
#endif
#ifdef HAVE_SSE2
    const __m128i zero = _mm_setzero_si128(), rounding = _mm_set1_epi32(half);
    for (int i = 0; i < values; i += 16) {
        __m128i a = rounding, b = rounding, c = rounding, d = rounding;
        for (int t = 0; t < taps; t += 2) {
            int32_t pair;
            memcpy(&pair, weights + t, sizeof pair);
            __m128i weight = _mm_set1_epi32(pair);
            __m128i upper = _mm_loadu_si128((const __m128i *)(rows[t] + i));
            __m128i lower = _mm_loadu_si128((const __m128i *)(rows[t + 1] + i));
            __m128i left = _mm_unpacklo_epi8(upper, lower);
            __m128i right = _mm_unpackhi_epi8(upper, lower);
            a = _mm_add_epi32(a, _mm_madd_epi16(_mm_unpacklo_epi8(left, zero), weight));
            b = _mm_add_epi32(b, _mm_madd_epi16(_mm_unpackhi_epi8(left, zero), weight));
            c = _mm_add_epi32(c, _mm_madd_epi16(_mm_unpacklo_epi8(right, zero), weight));
            d = _mm_add_epi32(d, _mm_madd_epi16(_mm_unpackhi_epi8(right, zero), weight));
        }
        a = _mm_srai_epi32(a, shift), b = _mm_srai_epi32(b, shift);
        c = _mm_srai_epi32(c, shift), d = _mm_srai_epi32(d, shift);
        _mm_storeu_si128((__m128i *)(blended + i), _mm_packs_epi32(a, b));
        _mm_storeu_si128((__m128i *)(blended + i + 8), _mm_packs_epi32(c, d));
    }
#else
    for (int i = 0; i < values; i++) {
        int32_t sum = half;
        for (int t = 0; t < taps; t++) sum += weights[t] * rows[t][i];
        blended[i] = (int16_t)(sum >> shift);
    }
#endif
}

/* One output row from a blended one. `taps` is a constant where the compiler inlines this. */
static inline void blend_columns(const int16_t *blended, const int32_t *firsts,
                                 const int16_t *weights, int taps, int side, uint8_t *restrict out) {
    const int shift = WEIGHT_BITS + BLENDED_BITS, half = 1 << (shift - 1);
    for (int i = 0; i < side; i++, weights += taps, out += 3) {
        const int16_t *pixels = blended + 4 * (ptrdiff_t)firsts[i];
#ifdef HAVE_SSE2
        __m128i sum = _mm_set1_epi32(half);
        for (int t = 0; t < taps; t += 2) {
            int32_t pair;
            memcpy(&pair, weights + t, sizeof pair);
            __m128i two = _mm_loadu_si128((const __m128i *)(pixels + 4 * t));
            two = _mm_unpacklo_epi16(two, _mm_unpackhi_epi64(two, two)); /* r r g g b b x x */
            sum = _mm_add_epi32(sum, _mm_madd_epi16(two, _mm_set1_epi32(pair)));
        }
        sum = _mm_packs_epi32(_mm_srai_epi32(sum, shift), sum);
        int32_t pixel = _mm_cvtsi128_si32(_mm_packus_epi16(sum, sum));
        memcpy(out, &pixel, i < side - 1 ? 4 : 3); /* the fourth byte is the next pixel's first */
#else
        for (int channel = 0; channel < 3; channel++) {
            int32_t sum = half;
            for (int t = 0; t < taps; t++) sum += weights[t] * pixels[4 * t + channel];
            sum >>= shift;
            out[channel] = (uint8_t)(sum < 0 ? 0 : sum > 255 ? 255 : sum);
        }
#endif
    }
}

ALSO_FOR_AVX2
static void finish_row(const int16_t *blended, const Axis *columns, int side, uint8_t *out) {
    const int32_t *firsts = columns->firsts.data;
    const int16_t *weights = columns->weights.data;
    switch (columns->taps) {
    case 2: blend_columns(blended, firsts, weights, 2, side, out); break;
    case 4: blend_columns(blended, firsts, weights, 4, side, out); break;
    case 6: blend_columns(blended, firsts, weights, 6, side, out); break;
    default: blend_columns(blended, firsts, weights, columns->taps, side, out);
    }
}

/* ---- Resampling as Torch7 does it: data/torch7.py, operation by operation -------------------- */

/* Of output pixel `i` out of `length`. Positions are floats, as in Torch: in double precision some
 * would land on the other side of a pixel. */
static Place torch7_place(int64_t i, int64_t length, int64_t count) {
    float step = (float)(count - 1) / (float)(length > 1 ? length - 1 : 1);
    float position = (float)i * step;
    int64_t at = (int64_t)position;
    /* The last output pixel is the last source pixel; with x = 0 the others have no part in it. */
    if (i == length - 1 || at >= count - 1) return (Place){(int32_t)(count - 1), 0};
    return (Place){(int32_t)at, position - (float)at};
}

/* `count` pixels from `origin` on are resized to `length`, of which `side` from `left` on stay. */
static bool build_line(Line *line, int64_t origin, int64_t count, int64_t length, int64_t left,
                       int side, bool mirrored) {
    Place *places = reserve(&line->places, sizeof *places * (size_t)side);
    if (places == NULL) return false;
    for (int i = 0; i < side; i++)
        places[mirrored ? side - 1 - i : i] = torch7_place(left + i, length, count);
    int64_t first = places[mirrored ? side - 1 : 0].at, last = places[mirrored ? 0 : side - 1].at;
    line->origin = origin, line->count = count;
    line->begin = first > 0 ? first - 1 : 0;
    line->end = last + 3 < count ? last + 3 : count;
    return true;
}

/* Catmull-Rom between p1 and p2; the outermost product and sum in double, as C promotes them. */
static inline void interpolate(const float *p0, const float *p1, const float *p2, const float *p3,
                               float x, int values, float *restrict out) {
    const double half = 0.5 * (double)x;
    for (int i = 0; i < values; i++) {
        float a1 = p2[i] - p0[i];
        float a2 = 2 * p0[i] - 5 * p1[i] + 4 * p2[i] - p3[i];
        float a3 = 3 * (p1[i] - p2[i]) + p3[i] - p0[i];
        float inner = a1 + x * (a2 + x * a3);
        out[i] = (float)((double)p1[i] + half * (double)inner);
    }
}

/* The pixel beyond an edge, on the line through the two outermost. */
static void extrapolate(const float *edge, const float *inner, int values, float *restrict out) {
    for (int i = 0; i < values; i++) out[i] = 2 * edge[i] - inner[i];
}

/* The pixels that `across` reads, with one more on the left and two on the right. */
ALSO_FOR_AVX2
static void to_floats(const uint8_t *pixels, const Line *across, float *floats) {
    int64_t read = across->end - across->begin;
    float *first = floats + 4, *last = floats + 4 * read;
    for (int64_t i = 0; i < 4 * read; i++) first[i] = (float)pixels[i] / 255.0F;
    if (across->count < 2) return;
    if (across->begin == 0) extrapolate(first, first + 4, 4, floats);
    if (across->end == across->count) extrapolate(last, last - 4, 4, last + 4);
}

ALSO_FOR_AVX2
static void resize_row(const float *floats, const Line *across, int side, float *out) {
    const Place *places = across->places.data;
    for (int i = 0; i < side; i++) {
        const float *p0 = floats + 4 * (places[i].at - across->begin);
        interpolate(p0, p0 + 4, p0 + 8, p0 + 12, places[i].x, 4, out + 4 * i);
    }
}

/* One output row, RGBX, of the four rows around its place. */
ALSO_FOR_AVX2
static void resize_column(float *const ring[4], Place place, int64_t count, int values,
                          float *beyond, float *out) {
    const float *p1 = ring[place.at % 4];
    const float *p2 = place.at + 1 < count ? ring[(place.at + 1) % 4] : p1;
    const float *p0 = beyond, *p3 = beyond;
    if (place.at > 0)
        p0 = ring[(place.at - 1) % 4];
    else
        extrapolate(p1, p2, values, beyond);
    if (place.at + 2 < count) {
        p3 = ring[(place.at + 2) % 4];
    } else {
        beyond += values;
        extrapolate(p2, p1, values, beyond);
        p3 = beyond;
    }
    interpolate(p0, p1, p2, p3, place.x, values, out);
}

/* ---- Decoding ------------------------------------------------------------------------------- */

enum { MAX_SCANS = 100, CHROMA_MARGIN = 16 };

/* Instead of ending the program, which is what libjpeg does by itself. */
static void give_up(j_common_ptr common) {
    Decoder *decoder = common->client_data;
    int code = common->err->msg_code;
    decoder->status = code == JERR_OUT_OF_MEMORY    ? NO_MEMORY
                      : code == JERR_BAD_PRECISION ? COLOURS
                                                   : CORRUPT;
    longjmp(decoder->escape, 1);
}

/* Instead of printing it. */
static void note(j_common_ptr common, int level) {
    Decoder *decoder = common->client_data;
    if (level < 0 && decoder->warnings < INT32_MAX) decoder->warnings++;
}

static void say_nothing(j_common_ptr common) { (void)common; }

static void limit_scans(j_common_ptr common) {
    Decoder *decoder = common->client_data;
    if (decoder->jpeg.input_scan_number <= MAX_SCANS) return;
    decoder->status = TOO_MANY_SCANS;
    longjmp(decoder->escape, 1);
}

/* One image on its way. */
typedef struct {
    const Request *request;
    const uint8_t *bytes;
    int64_t size;
    uint64_t index;
    Cut *cut;
    void *pixels;
    Outcome *outcome;
} Job;

static Status read_header(Worker *worker, Job *job) {
    struct jpeg_decompress_struct *jpeg = &worker->decoder.jpeg;
    jpeg_mem_src(jpeg, (unsigned char *)job->bytes, (unsigned long)job->size);
    jpeg_read_header(jpeg, TRUE);
    if ((jpeg->num_components != 1 && jpeg->num_components != 3) || jpeg->data_precision != 8)
        return COLOURS;
    if ((int64_t)jpeg->image_width * jpeg->image_height > job->request->max_pixels)
        return TOO_MANY_PIXELS;
    return OK;
}

/* A box, and the part of the image that the filter may see. */
typedef struct {
    double start, extent; /* of the box, counted from `begin` */
    int64_t begin, length;
} Span;

static Span visible(double start, double extent, bool beyond, int64_t size) {
    int64_t begin = beyond ? 0 : (int64_t)floor(start);
    int64_t end = beyond ? size : (int64_t)ceil(start + extent);
    if (end > size) end = size;
    if (begin > end - 1) begin = end - 1;
    return (Span){start - (double)begin, extent, begin, end - begin};
}

static bool fits(const Cut *cut, Size size) {
    /* Boxes computed in floating point may stick out by their rounding. */
    double w = (double)size.width * (1 + 1e-9), h = (double)size.height * (1 + 1e-9);
    return cut->x >= 0 && cut->y >= 0 && cut->width > 0 && cut->height > 0 && cut->x < w &&
           cut->y < h && cut->x + cut->width <= w && cut->y + cut->height <= h;
}

/* Leave out the columns that nothing needs; returns where the decoded rows start in the image. */
static int64_t crop_columns(struct jpeg_decompress_struct *jpeg, int64_t begin, int64_t end) {
    int64_t from = begin - CHROMA_MARGIN, to = end + CHROMA_MARGIN, width = jpeg->output_width;
    if (from < 0) from = 0;
    if (to > width) to = width;
    if (from == 0 && to == width) return 0;
    JDIMENSION offset = (JDIMENSION)from, kept = (JDIMENSION)(to - from);
    jpeg_crop_scanline(jpeg, &offset, &kept); /* moves the offset left to a whole block */
    return offset;
}

/* libjpeg writes rows that start at a multiple of 16 or 32 bytes past the cache, and reading them
 * back costs as much as the resize; so no row does. */
enum { SKEW = 8 };

static size_t stride_of(const struct jpeg_decompress_struct *jpeg) {
    return (((size_t)jpeg->output_width + SPARE) * 4 + 31) / 32 * 32;
}

static bool skip_rows(struct jpeg_decompress_struct *jpeg, int64_t count) {
    return count == 0 || jpeg_skip_scanlines(jpeg, (JDIMENSION)count) == (JDIMENSION)count;
}

static bool read_row(struct jpeg_decompress_struct *jpeg, uint8_t *row) {
    return jpeg_read_scanlines(jpeg, &row, 1) == 1;
}

static Status make_bytes(Worker *worker, Job *job, int64_t top, int64_t left) {
    struct jpeg_decompress_struct *jpeg = &worker->decoder.jpeg;
    const Axis *rows = &worker->rows, *columns = &worker->columns;
    const int32_t *firsts = rows->firsts.data;
    const int16_t *weights = rows->weights.data;
    int side = job->request->side, taps = rows->taps;
    size_t stride = stride_of(jpeg);
    size_t blended_pixels = (size_t)(columns->end + columns->taps + SPARE);
    uint8_t *window = reserve(&worker->window, stride * (size_t)taps + SKEW);
    const uint8_t **sources = reserve(&worker->sources, sizeof *sources * (size_t)taps);
    int16_t *blended = reserve(&worker->blended, sizeof *blended * 4 * blended_pixels);
    if (window == NULL || sources == NULL || blended == NULL) return NO_MEMORY;
    /* Spare pixels are multiplied by 0 or overwritten; they must only not be undefined. */
    memset(window, 0, stride * (size_t)taps + SKEW);
    window += SKEW;
    memset(blended, 0, sizeof *blended * 4 * blended_pixels);

    if (!skip_rows(jpeg, top)) return CORRUPT;
    int have = rows->begin; /* rows up to this one have been decoded */
    int needed_pixels = columns->end - columns->begin;
    for (int y = 0; y < side; y++) {
        int first = firsts[y], last = first + taps < rows->end ? first + taps : rows->end;
        for (; have < last; have++)
            if (!read_row(jpeg, window + stride * (size_t)(have % taps))) return CORRUPT;
        if (job->request->resample == NOTHING) continue;
        for (int t = 0; t < taps; t++) /* beyond the last row: any row, its weight is 0 */
            sources[t] = window + stride * (size_t)((first + t) % taps) + 4 * left;
        blend_rows(sources, weights + (size_t)y * (size_t)taps, taps, 4 * needed_pixels,
                   blended + 4 * columns->begin);
        finish_row(blended, columns, side, (uint8_t *)job->pixels + (size_t)y * (size_t)side * 3);
    }
    return OK;
}

static Status bilinear(Worker *worker, Job *job, Size size) {
    const Cut *cut = job->cut;
    int side = job->request->side;
    Span x = visible(cut->x, cut->width, cut->beyond, size.width);
    Span y = visible(cut->y, cut->height, cut->beyond, size.height);
    if (!build_axis(&worker->columns, x.start, x.extent, x.length, side, cut->mirrored) ||
        !build_axis(&worker->rows, y.start, y.extent, y.length, side, false))
        return NO_MEMORY;
    int64_t needed = x.begin + worker->columns.begin;
    int64_t offset = crop_columns(&worker->decoder.jpeg, needed, x.begin + worker->columns.end);
    return make_bytes(worker, job, y.begin + worker->rows.begin, needed - offset);
}

/* RGBX -> RGB. */
static void pack(const float *row, int side, float *restrict out) {
    for (int i = 0; i < side; i++)
        for (int channel = 0; channel < 3; channel++) out[3 * i + channel] = row[4 * i + channel];
}

static Status make_floats(Worker *worker, Job *job, int64_t left) {
    struct jpeg_decompress_struct *jpeg = &worker->decoder.jpeg;
    const Line *across = &worker->across, *down = &worker->down;
    const Place *places = down->places.data;
    int side = job->request->side, values = 4 * side;
    size_t row_bytes = stride_of(jpeg) + SKEW;
    size_t floats_bytes = sizeof(float) * 4 * (size_t)(across->end - across->begin + 3);
    uint8_t *row = reserve(&worker->window, row_bytes);
    float *floats = reserve(&worker->floats, floats_bytes);
    float *ring = reserve(&worker->resized, sizeof *ring * (size_t)values * 7);
    if (row == NULL || floats == NULL || ring == NULL) return NO_MEMORY;
    float *rows[] = {ring, ring + values, ring + 2 * values, ring + 3 * values};
    float *beyond = ring + 4 * values, *made = ring + 6 * values;
    memset(floats, 0, floats_bytes); /* pixels that x = 0 leaves out must only not be undefined */
    row += SKEW;

    if (!skip_rows(jpeg, down->origin + down->begin)) return CORRUPT;
    int64_t have = down->begin; /* rows up to this one have been decoded */
    for (int y = 0; y < side; y++) {
        Place place = places[y];
        int64_t end = place.at + 3 < down->count ? place.at + 3 : down->count;
        for (; have < end; have++) {
            if (!read_row(jpeg, row)) return CORRUPT;
            if (have < place.at - 1) continue; /* between two output rows: neither sees it */
            to_floats(row + 4 * left, across, floats);
            resize_row(floats, across, side, rows[have % 4]);
        }
        resize_column(rows, place, down->count, values, beyond, made);
        pack(made, side, (float *)job->pixels + (size_t)y * (size_t)side * 3);
    }
    return OK;
}

static Status torch7(Worker *worker, Job *job, Size size) {
    const Request *request = job->request;
    const Cut *cut = job->cut;
    Line *across = &worker->across, *down = &worker->down;
    int side = request->side, shorter = request->rule == CENTRAL_TORCH7 ? request->resize : side;
    bool room;
    if (cut->beyond) { /* the whole is resized, and its centre kept */
        Resized whole = resized(true, size, shorter, side);
        room = build_line(across, 0, size.width, (int64_t)whole.width, (int64_t)whole.left, side,
                          cut->mirrored) &&
               build_line(down, 0, size.height, (int64_t)whole.height, (int64_t)whole.top, side,
                          false);
    } else {
        room = build_line(across, (int64_t)cut->x, (int64_t)cut->width, side, 0, side,
                          cut->mirrored) &&
               build_line(down, (int64_t)cut->y, (int64_t)cut->height, side, 0, side, false);
    }
    if (!room) return NO_MEMORY;
    int64_t needed = across->origin + across->begin;
    int64_t offset = crop_columns(&worker->decoder.jpeg, needed, across->origin + across->end);
    return make_floats(worker, job, needed - offset);
}

static Status decode(Worker *worker, Job *job) {
    struct jpeg_decompress_struct *jpeg = &worker->decoder.jpeg;
    const Request *request = job->request;
    Status status = read_header(worker, job);
    if (status != OK) return status;
    Size size = {jpeg->image_width, jpeg->image_height};
    *job->cut = choose_cut(request, job->index, *job->cut, size);
    if (!fits(job->cut, size)) return BAD_CUT;
    if (request->rule != GIVEN && job->cut->beyond && too_large(request, size))
        return TOO_MANY_PIXELS;
    jpeg->out_color_space = JCS_EXT_RGBX; /* four values a pixel suit vectors of four */
    jpeg_start_decompress(jpeg);
    return request->resample == TORCH7 ? torch7(worker, job, size) : bilinear(worker, job, size);
}

typedef Status Step(Worker *worker, Job *job);

/* Run a step that libjpeg may leave at any point. No local variable lives across setjmp. */
static void guarded(Worker *worker, Step *step, Job *job) {
    Decoder *decoder = &worker->decoder;
    memset(decoder, 0, sizeof *decoder);
    decoder->jpeg.err = jpeg_std_error(&decoder->errors);
    decoder->errors.error_exit = give_up;
    decoder->errors.emit_message = note;
    decoder->errors.output_message = say_nothing;
    decoder->progress.progress_monitor = limit_scans;
    decoder->jpeg.client_data = decoder;
    if (setjmp(decoder->escape) == 0) {
        jpeg_create_decompress(&decoder->jpeg);
        decoder->jpeg.progress = &decoder->progress;
        decoder->status = step(worker, job);
    }
    jpeg_destroy_decompress(&decoder->jpeg);
    job->outcome->status = decoder->status;
    job->outcome->warnings = decoder->warnings;
}

/* ---- Reading -------------------------------------------------------------------------------- */

/* Exactly `size` bytes from `offset` on. */
static Status read_part(int file, int64_t offset, int64_t size, uint8_t *into) {
    while (size > 0) {
        ssize_t got = pread(file, into, (size_t)size, (off_t)offset);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return UNREADABLE;
        into += got, offset += got, size -= got;
    }
    return OK;
}

static Status read_open(Worker *worker, Job *job, const Source *source, int file) {
    int64_t size = source->size;
    if (size < 0) {
        struct stat about;
        if (fstat(file, &about) != 0 || !S_ISREG(about.st_mode)) return UNREADABLE;
        size = (int64_t)about.st_size - source->offset;
    }
    if (size <= 0) return EMPTY;
    if (size > job->request->max_bytes) return TOO_MANY_BYTES;
    uint8_t *into = reserve(&worker->file, (size_t)size);
    if (into == NULL) return NO_MEMORY;
    job->bytes = into;
    job->size = size;
    return read_part(file, source->offset, size, into);
}

static Status fetch(Worker *worker, Job *job, const Source *source) {
    job->bytes = source->bytes;
    job->size = source->size;
    if (source->bytes != NULL && source->size > job->request->max_bytes) return TOO_MANY_BYTES;
    if (source->bytes == NULL && source->path == NULL)
        return read_open(worker, job, source, (int)source->file);
    if (source->bytes == NULL) {
        /* Without O_NONBLOCK, opening a named pipe would wait for its other end. */
        int file = open(source->path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK);
        if (file < 0) return UNREADABLE;
        Status status = read_open(worker, job, source, file);
        close(file);
        return status;
    }
    return OK;
}

static Status recognise(const Job *job) {
    static const uint8_t start[] = {0xFF, 0xD8, 0xFF};
    if (job->size <= 0) return EMPTY;
    return job->size > 3 && memcmp(job->bytes, start, sizeof start) == 0 ? OK : NOT_JPEG;
}

/* ---- Colours --------------------------------------------------------------------------------- */

#ifdef HAVE_SSE2
/* Four bytes, of which the first three are a pixel. */
static inline __m128i load_pixel(const uint8_t *pixel) {
    int32_t bytes;
    memcpy(&bytes, pixel, sizeof bytes);
    return _mm_cvtsi32_si128(bytes);
}

/* rrrr gggg bbbb of four pixels, and the four bytes behind each. */
static inline __m128i load_four(const uint8_t *pixels) {
    __m128i one = _mm_unpacklo_epi8(load_pixel(pixels), load_pixel(pixels + 3));
    __m128i two = _mm_unpacklo_epi8(load_pixel(pixels + 6), load_pixel(pixels + 9));
    return _mm_unpacklo_epi16(one, two);
}
#endif

#ifdef HAVE_AVX2
FOR_AVX2 static inline __m256 eight_floats(__m128i bytes) {
    return _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(bytes));
}

/* As map_colours, as far as whole vectors go; returns how far that is. */
FOR_AVX2 static int64_t map_colours_avx2(const uint8_t *pixels, int64_t area, const float map[12],
                                         float *planes) {
    int64_t at = 0;
    for (; at + 8 < area; at += 8, pixels += 24) {
        __m128i first = load_four(pixels), second = load_four(pixels + 12);
        __m128i red_green = _mm_unpacklo_epi32(first, second);
        __m256 r = eight_floats(red_green), g = eight_floats(_mm_srli_si128(red_green, 8));
        __m256 b = eight_floats(_mm_unpackhi_epi32(first, second));
        for (int channel = 0; channel < 3; channel++) {
            const float *row = map + 4 * channel;
            __m256 sum = _mm256_mul_ps(_mm256_set1_ps(row[0]), r);
            sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_set1_ps(row[1]), g));
            sum = _mm256_add_ps(sum, _mm256_mul_ps(_mm256_set1_ps(row[2]), b));
            sum = _mm256_add_ps(sum, _mm256_set1_ps(row[3]));
            _mm256_storeu_ps(planes + channel * area + at, sum);
        }
    }
    return at;
}
#endif

/* y = A x + b per pixel, x of bytes, [A | b] in `map`; three planes come out. */
static void map_colours(const uint8_t *pixels, int64_t area, const float map[12], float *planes) {
    int64_t at = 0;
    /* Each pixel is read with the byte behind it, so the last one is left to the last loop. */
#ifdef HAVE_AVX2
    if (__builtin_cpu_supports("avx2")) at = map_colours_avx2(pixels, area, map, planes);
    pixels += 3 * at;
#endif
#ifdef HAVE_SSE2
    const __m128i zero = _mm_setzero_si128();
    for (; at + 4 < area; at += 4, pixels += 12) {
        __m128i four = load_four(pixels);
        __m128i red_green = _mm_unpacklo_epi8(four, zero);
        __m128 r = _mm_cvtepi32_ps(_mm_unpacklo_epi16(red_green, zero));
        __m128 g = _mm_cvtepi32_ps(_mm_unpackhi_epi16(red_green, zero));
        __m128 b = _mm_cvtepi32_ps(_mm_unpacklo_epi16(_mm_unpackhi_epi8(four, zero), zero));
        for (int channel = 0; channel < 3; channel++) {
            const float *row = map + 4 * channel;
            __m128 sum = _mm_mul_ps(_mm_set1_ps(row[0]), r);
            sum = _mm_add_ps(sum, _mm_mul_ps(_mm_set1_ps(row[1]), g));
            sum = _mm_add_ps(sum, _mm_mul_ps(_mm_set1_ps(row[2]), b));
            _mm_storeu_ps(planes + channel * area + at, _mm_add_ps(sum, _mm_set1_ps(row[3])));
        }
    }
#endif
    for (; at < area; at++, pixels += 3)
        for (int channel = 0; channel < 3; channel++) {
            const float *row = map + 4 * channel;
            planes[channel * area + at] = row[0] * (float)pixels[0] + row[1] * (float)pixels[1] +
                                          row[2] * (float)pixels[2] + row[3];
        }
}

/* Integers are added up, so the means are exact up to their last rounding. */
ALSO_FOR_AVX2
static void average_colours(const uint8_t *pixels, int64_t area, float means[3]) {
    uint64_t sums[3] = {0};
    int64_t at = 0;
#ifdef HAVE_SSE2
    /* 16 pixels are three vectors; byte j of the v-th one is of channel (v + j) mod 3. */
    const __m128i zero = _mm_setzero_si128();
    __m128i every_third[3], totals[3] = {zero, zero, zero};
    for (int start = 0; start < 3; start++) {
        uint8_t mask[16];
        for (int j = 0; j < 16; j++) mask[j] = j % 3 == start ? 0xFF : 0;
        every_third[start] = _mm_loadu_si128((const __m128i *)mask);
    }
    for (; at + 16 <= area; at += 16)
        for (int v = 0; v < 3; v++) {
            __m128i bytes = _mm_loadu_si128((const __m128i *)(pixels + 3 * at + 16 * v));
            for (int channel = 0; channel < 3; channel++) {
                __m128i own = _mm_and_si128(bytes, every_third[(channel + 3 - v) % 3]);
                totals[channel] = _mm_add_epi64(totals[channel], _mm_sad_epu8(own, zero));
            }
        }
    for (int channel = 0; channel < 3; channel++) {
        uint64_t halves[2];
        memcpy(halves, &totals[channel], sizeof halves);
        sums[channel] = halves[0] + halves[1];
    }
#endif
    for (; at < area; at++)
        for (int channel = 0; channel < 3; channel++) sums[channel] += pixels[3 * at + channel];
    for (int channel = 0; channel < 3; channel++)
        means[channel] = (float)((double)sums[channel] / (double)area);
}

/* ---- A batch over the threads --------------------------------------------------------------- */

typedef struct Batch Batch;
struct Batch {
    void (*each)(Worker *worker, const Batch *batch, int64_t at); /* what to do with an image */
    int64_t count;
    int threads;
    atomic_llong next; /* the first image that no thread has taken yet */
    /* for load_image */
    const Request *request;
    const Source *sources;
    const uint64_t *indices; /* of the draws */
    Cut *cuts;
    char *pixels;
    Outcome *outcomes;
    /* for colour_image and average_image */
    const uint8_t *images;
    int64_t area;
    const float *maps;
    float *planes, *means;
};

/* Bytes of an output image. */
static size_t image_size(const Request *request) {
    size_t values = (size_t)request->side * (size_t)request->side * 3;
    return request->resample == TORCH7 ? values * sizeof(float) : values;
}

static void load_image(Worker *worker, const Batch *batch, int64_t at) {
    size_t image = image_size(batch->request);
    Job job = {
        .request = batch->request,
        .index = batch->indices[at],
        .cut = &batch->cuts[at],
        .pixels = batch->pixels + image * (size_t)at,
        .outcome = &batch->outcomes[at],
    };
    *job.outcome = (Outcome){0};
    Status status = fetch(worker, &job, &batch->sources[at]);
    if (status == OK) status = recognise(&job);
    job.outcome->status = (int32_t)status;
    if (status == OK) guarded(worker, decode, &job);
    if (job.outcome->status != OK) memset(job.pixels, 0, image);
    trim(&worker->file);
    trim(&worker->window);
}

static void colour_image(Worker *worker, const Batch *batch, int64_t at) {
    (void)worker;
    map_colours(batch->images + 3 * batch->area * at, batch->area, batch->maps + 12 * at,
                batch->planes + 3 * batch->area * at);
}

static void average_image(Worker *worker, const Batch *batch, int64_t at) {
    (void)worker;
    average_colours(batch->images + 3 * batch->area * at, batch->area, batch->means + 3 * at);
}

static void do_share(Worker *worker, Batch *batch) {
    for (;;) {
        int64_t at = atomic_fetch_add_explicit(&batch->next, 1, memory_order_relaxed);
        if (at >= batch->count) return;
        batch->each(worker, batch, at);
    }
}

typedef struct Pool Pool;

typedef struct {
    Pool *pool;
    int number; /* the caller of a batch is number 0 and has no thread here */
    pthread_t thread;
    Worker worker;
} Member;

struct Pool {
    pthread_mutex_t lock; /* for all below; the caller runs one batch at a time */
    pthread_cond_t wake, done;
    pid_t owner;
    int size;
    Batch *batch;
    uint64_t round;  /* counts batches, so that a thread takes part in each only once */
    int busy;        /* threads that have not finished this batch */
    bool closing;
    Member members[];
};

static void *serve(void *argument) {
    Member *member = argument;
    Pool *pool = member->pool;
    uint64_t seen = 0;
    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->closing && pool->round == seen) pthread_cond_wait(&pool->wake, &pool->lock);
        if (pool->closing) break;
        seen = pool->round;
        Batch *batch = pool->batch;
        if (batch == NULL || member->number >= batch->threads) continue;
        pthread_mutex_unlock(&pool->lock);
        do_share(&member->worker, batch);
        pthread_mutex_lock(&pool->lock);
        if (--pool->busy == 0) pthread_cond_signal(&pool->done);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

static int run_batch(Pool *pool, Batch *batch) {
    if (pool->owner != getpid()) return -2;
    int threads = batch->threads;
    if (threads < 1 || threads > pool->size) threads = pool->size;
    if (threads > batch->count) threads = (int)batch->count;
    batch->threads = threads;
    atomic_init(&batch->next, 0);
    if (threads > 1) {
        pthread_mutex_lock(&pool->lock);
        pool->batch = batch;
        pool->busy = threads - 1;
        pool->round++;
        pthread_cond_broadcast(&pool->wake);
        pthread_mutex_unlock(&pool->lock);
    }
    do_share(&pool->members[0].worker, batch);
    if (threads > 1) {
        pthread_mutex_lock(&pool->lock);
        while (pool->busy > 0) pthread_cond_wait(&pool->done, &pool->lock);
        pool->batch = NULL;
        pthread_mutex_unlock(&pool->lock);
    }
    return 0;
}

static bool valid(const Request *request) {
    bool by_torch7 = request->rule == TRAIN_TORCH7 || request->rule == CENTRAL_TORCH7;
    if (request->resample == TORCH7 && !by_torch7) return false;
    return request->side >= 1 && request->side <= 8192 && request->rule >= GIVEN &&
           request->rule <= CENTRAL_TORCH7 && request->resample >= BILINEAR &&
           request->resample <= NOTHING &&
           (request->rule < CENTRAL_TORCHVISION || request->resize >= request->side) &&
           request->resize <= 65535;
}

/* ---- The interface -------------------------------------------------------------------------- */

PUBLIC int resnext_interface(void) { return INTERFACE; }

/* Of the headers; the library itself tells no version. */
PUBLIC int resnext_libjpeg_turbo(void) { return LIBJPEG_TURBO_VERSION_NUMBER; }

static Status only_create(Worker *worker, Job *job) {
    (void)worker, (void)job;
    return OK;
}

/* 0: the library that was found at run time fits the headers that this was compiled with. */
PUBLIC int resnext_check(void) {
    Worker *worker = calloc(1, sizeof *worker);
    if (worker == NULL) return NO_MEMORY;
    Outcome outcome = {0};
    Job job = {.outcome = &outcome};
    guarded(worker, only_create, &job);
    free(worker);
    return outcome.status;
}

PUBLIC void resnext_close(Pool *pool);

/* Threads for up to `size` images at once, the calling thread being one; NULL without memory. */
PUBLIC Pool *resnext_open(int size) {
    if (size < 1 || size > 1024) return NULL;
    Pool *pool = calloc(1, sizeof *pool + (size_t)size * sizeof *pool->members);
    if (pool == NULL) return NULL;
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->done, NULL);
    pool->owner = getpid();
    pool->size = 1;
    sigset_t all, before; /* signals are for the interpreter's threads */
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    for (; pool->size < size; pool->size++) {
        Member *member = &pool->members[pool->size];
        member->pool = pool;
        member->number = pool->size;
        if (pthread_create(&member->thread, NULL, serve, member) != 0) break;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (pool->size == size) return pool;
    resnext_close(pool);
    return NULL;
}

PUBLIC void resnext_close(Pool *pool) {
    if (pool == NULL || pool->owner != getpid()) return; /* a fork has none of the threads */
    pthread_mutex_lock(&pool->lock);
    pool->closing = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (int i = 1; i < pool->size; i++) pthread_join(pool->members[i].thread, NULL);
    for (int i = 0; i < pool->size; i++) clear_worker(&pool->members[i].worker);
    free(pool);
}

/* `cuts` holds the boxes under the rule GIVEN and receives them under the others; `indices` names
 * the images to the draws.
 * Returns 0, or -1: arguments that make no sense, or -2: the pool belongs to another process. */
PUBLIC int resnext_load(Pool *pool, const Request *request, int64_t count, const Source *sources,
                        const uint64_t *indices, Cut *cuts, void *pixels, Outcome *outcomes) {
    if (!valid(request) || count < 0) return -1;
    Batch batch = {.each = load_image,
                   .count = count,
                   .threads = request->threads,
                   .request = request,
                   .sources = sources,
                   .indices = indices,
                   .cuts = cuts,
                   .pixels = pixels,
                   .outcomes = outcomes};
    return run_batch(pool, &batch);
}

/* N x 3 x 4 maps of colours, from N images of `area` pixels of three bytes to N x 3 planes. */
PUBLIC int resnext_colours(Pool *pool, int64_t count, int64_t area, const uint8_t *images,
                           const float *maps, float *planes) {
    if (count < 0 || area < 1) return -1;
    Batch batch = {.each = colour_image,
                   .count = count,
                   .images = images,
                   .area = area,
                   .maps = maps,
                   .planes = planes};
    return run_batch(pool, &batch);
}

/* The mean of each channel of each image: N x 3. */
PUBLIC int resnext_means(Pool *pool, int64_t count, int64_t area, const uint8_t *images,
                         float *means) {
    if (count < 0 || area < 1) return -1;
    Batch batch = {
        .each = average_image, .count = count, .images = images, .area = area, .means = means};
    return run_batch(pool, &batch);
}

/* The box that a rule gives for an image of this size, without an image: for the tests. */
PUBLIC void resnext_cut(const Request *request, uint64_t index, int64_t width, int64_t height,
                        Cut *cut) {
    *cut = choose_cut(request, index, *cut, (Size){width, height});
}
