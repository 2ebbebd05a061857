/* Feeds mutated JPEG files to the native loader, in a program that sanitizers watch.
 *
 * native_fuzz COUNT SEED FILE...: COUNT mutations of the files, each loaded under random settings,
 * from memory of exactly its size into memory of exactly the output's size, and now and then beside
 * an intact image, whose pixels must not change. Prints how many images ended in which status.
 */
#include "loader.c"

static uint64_t state;

static uint64_t next_word(void) { /* xorshift64* */
    state ^= state >> 12;
    state ^= state << 25;
    state ^= state >> 27;
    return state * UINT64_C(0x2545F4914F6CDD1D);
}

static size_t below(size_t bound) { return bound == 0 ? 0 : (size_t)((next_word() >> 16) % bound); }

static double uniform(void) { return (double)(next_word() >> 11) * 0x1p-53; }

static void require(bool holds, const char *what) {
    if (holds) return;
    fprintf(stderr, "expected %s\n", what);
    abort();
}

typedef struct {
    uint8_t *bytes;
    size_t size;
} File;

static File read_whole(const char *path) {
    FILE *stream = fopen(path, "rb");
    require(stream != NULL, "a file to mutate");
    fseek(stream, 0, SEEK_END);
    File file = {NULL, (size_t)ftell(stream)};
    rewind(stream);
    file.bytes = malloc(file.size + 1);
    require(fread(file.bytes, 1, file.size, stream) == file.size, "to read a whole file");
    fclose(stream);
    return file;
}

/* Half of the places are in the headers, where a byte decides over much. */
static size_t place(size_t size) {
    return next_word() & 1 ? below(size < 700 ? size : 700) : below(size);
}

static void put(File *file, size_t at, uint8_t value) {
    if (at < file->size) file->bytes[at] = value;
}

static void remove_range(File *file) {
    size_t from = place(file->size), count = below(64);
    if (from + count > file->size) count = file->size - from;
    memmove(file->bytes + from, file->bytes + from + count, file->size - from - count);
    file->size -= count;
}

/* A part of `other`, which may be the file itself, is inserted or written over. */
static void splice(File *file, File other, size_t room) {
    size_t from = place(other.size), to = place(file->size), count = below(600);
    if (from + count > other.size) count = other.size - from;
    if (next_word() & 1) {
        if (to + count > file->size) count = file->size - to;
    } else {
        if (file->size + count > room) return;
        memmove(file->bytes + to + count, file->bytes + to, file->size - to);
        file->size += count;
    }
    memmove(file->bytes + to, other.bytes + from, count);
}

/* A number in the frame header: precision, height, width, components, sampling factors. */
static void edit_frame(File *file) {
    static const uint16_t sizes[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 255, 256, 1000, 65500, 65535};
    static const uint8_t factors[] = {0x11, 0x12, 0x21, 0x22, 0x41, 0x14, 0x44, 0x31, 0x13, 0x33};
    for (size_t at = 2; at + 20 < file->size; at++) {
        bool frame = file->bytes[at] == 0xFF && file->bytes[at + 1] >= 0xC0 &&
                     file->bytes[at + 1] <= 0xC2;
        if (!frame) continue;
        uint16_t size = sizes[below(sizeof sizes / sizeof *sizes)];
        switch (below(5)) {
        case 0:
        case 1: {
            size_t field = at + (next_word() & 1 ? 5 : 7);
            put(file, field, (uint8_t)(size >> 8));
            put(file, field + 1, (uint8_t)size);
            break;
        }
        case 2: put(file, at + 9, (uint8_t)below(6)); break;
        case 3: put(file, at + 11 + 3 * below(3), factors[below(sizeof factors)]); break;
        default: put(file, at + 1, (uint8_t)(0xC0 + below(16)));
        }
        return;
    }
}

static void mutate(File *file, File other, size_t room) {
    static const uint8_t bytes[] = {0x00, 0x01, 0x7F, 0x80, 0xFF, 0xD8, 0xD9, 0xDA, 0xC4, 0xDB};
    if (file->size < 4) return;
    size_t at = place(file->size);
    switch (below(9)) {
    case 0: file->bytes[at] ^= (uint8_t)(1u << below(8)); break;
    case 1: file->bytes[at] = (uint8_t)next_word(); break;
    case 2: file->bytes[at] = bytes[below(sizeof bytes)]; break;
    case 3:
        put(file, at, 0xFF);
        put(file, at + 1, (uint8_t)(0xC0 + below(64)));
        break;
    case 4: file->size = below(file->size); break;
    case 5: remove_range(file); break;
    case 6: splice(file, *file, room); break;
    case 7: splice(file, other, room); break;
    default: edit_frame(file);
    }
}

static Request random_request(void) {
    static const int32_t sides[] = {1, 2, 3, 7, 16, 31, 32, 64, 64, 112};
    Request request = {.seed = next_word(),
                       .purpose = 2,
                       .max_pixels = 300000,
                       .max_bytes = 1 << 20,
                       .rule = (int32_t)below(CENTRAL_TORCH7 + 1),
                       .resample = (int32_t)below(NOTHING + 1),
                       .side = sides[below(sizeof sides / sizeof *sides)]};
    if (request.resample == TORCH7) request.rule = below(2) ? TRAIN_TORCH7 : CENTRAL_TORCH7;
    request.resize = request.side + (int32_t)below(40);
    return request;
}

/* Mostly inside small images, sometimes nonsense. */
static Cut random_cut(void) {
    Cut cut = {.x = uniform() * 60,
               .y = uniform() * 60,
               .width = uniform() * 100,
               .height = uniform() * 100,
               .mirrored = (int32_t)below(2),
               .beyond = (int32_t)below(2)};
    double *fields[] = {&cut.x, &cut.y, &cut.width, &cut.height};
    static const double strange[] = {0, -1, 1e-300, 1e18, 1e300, -0.0, 0.5};
    if (below(4) == 0) *fields[below(4)] = strange[below(sizeof strange / sizeof *strange)];
    if (below(40) == 0) *fields[below(4)] = below(2) ? (double)NAN : (double)INFINITY;
    return cut;
}

/* The mutated file, and for `beside` an intact one on both sides of it. */
static Status try_file(Pool *pool, const Request *request, File mutated, File intact, bool beside) {
    uint8_t *bytes = malloc(mutated.size > 0 ? mutated.size : 1);
    memcpy(bytes, mutated.bytes, mutated.size);
    int64_t count = beside ? 3 : 1, middle = beside ? 1 : 0;
    Source sources[3];
    Cut cuts[3];
    Outcome outcomes[3];
    uint64_t indices[3] = {5, next_word(), 5};
    Cut shared = random_cut();
    for (int64_t i = 0; i < count; i++) {
        File file = i == middle ? (File){bytes, mutated.size} : intact;
        sources[i] = (Source){.bytes = file.bytes, .size = (int64_t)file.size, .file = -1};
        cuts[i] = i == middle ? random_cut() : shared;
    }
    size_t image = image_size(request);
    uint8_t *pixels = malloc(image * (size_t)count);
    memset(pixels, 0xA5, image * (size_t)count);
    int code = resnext_load(pool, request, count, sources, indices, cuts, pixels, outcomes);
    require(code == 0, "every request to be valid");
    for (int64_t i = 0; i < count; i++)
        require(outcomes[i].status >= OK && outcomes[i].status <= NO_MEMORY, "a known status");
    if (beside)
        require(outcomes[0].status == outcomes[2].status &&
                    memcmp(pixels, pixels + 2 * image, image) == 0,
                "the same pixels on both sides of a bad image");
    Status status = (Status)outcomes[middle].status;
    free(pixels);
    free(bytes);
    return status;
}

/* Images of every small number of pixels, in memory of exactly their size. */
static void try_colours(Pool *pool) {
    for (size_t area = 1; area <= 70; area++) {
        uint8_t *images = malloc(2 * 3 * area);
        float *maps = calloc(24, sizeof *maps), *planes = malloc(6 * area * sizeof *planes), means[6];
        for (size_t i = 0; i < 6 * area; i++) images[i] = (uint8_t)next_word();
        require(resnext_colours(pool, 2, (int64_t)area, images, maps, planes) == 0, "colours");
        require(resnext_means(pool, 2, (int64_t)area, images, means) == 0, "means");
        free(planes);
        free(maps);
        free(images);
    }
}

int main(int argc, char **argv) {
    require(argc > 3, "COUNT SEED FILE...");
    long count = strtol(argv[1], NULL, 10);
    state = strtoull(argv[2], NULL, 10) * 2 + 1;
    size_t files = (size_t)argc - 3, largest = 0;
    File *seeds = malloc(files * sizeof *seeds);
    for (size_t i = 0; i < files; i++) {
        seeds[i] = read_whole(argv[i + 3]);
        if (seeds[i].size > largest) largest = seeds[i].size;
    }
    size_t room = largest + 4096;
    File mutated = {malloc(room), 0};
    Pool *pool = resnext_open(2);
    require(pool != NULL, "a pool of two");
    try_colours(pool);
    long tally[NO_MEMORY + 1] = {0};
    for (long at = 0; at < count; at++) {
        File seed = seeds[below(files)];
        memcpy(mutated.bytes, seed.bytes, seed.size);
        mutated.size = seed.size;
        for (size_t step = 1 + below(4); step > 0; step--)
            mutate(&mutated, seeds[below(files)], room);
        Request request = random_request();
        tally[try_file(pool, &request, mutated, seed, below(8) == 0)]++;
    }
    for (int status = 0; status <= NO_MEMORY; status++) printf("%d %ld\n", status, tally[status]);
    resnext_close(pool);
    free(mutated.bytes);
    for (size_t i = 0; i < files; i++) free(seeds[i].bytes);
    free(seeds);
    return 0;
}
