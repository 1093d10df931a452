/* heap_map.c [FILE]: draws an allocator's blocks as an SVG, with one square for each 64 KiB. The
 * colour shows the slot size, its opacity how many slots are live. The allocator first does the
 * work of a small server, with sessions that stay, requests that come and go, and a few large
 * buffers.
 *
 * Build: cc heap_map.c $(pkg-config --cflags --libs valloc) */
#include <stdio.h>
#include <stdlib.h>

#define VALLOC_NO_SHORT_NAMES
#include <valloc.h>

#define COLUMNS 32
#define CELL 20
#define LEFT 16
#define TOP 76

typedef struct Map {
    FILE *out;
    size_t cells;
    size_t live, slots;
} Map;

/* Small slots are blue, large ones red, runs grey. */
static int hue_of(size_t slot_size)
{
    int hue = 230;
    for (size_t size = 16; size < slot_size && hue > 0; size *= 2)
        hue -= 20;
    return hue > 0 ? hue : 0;
}

static int draw(const MemoryBlock *block, void *context)
{
    Map *map = context;
    double fill = block->slots == 0 ? 0 : (double)block->live_slots / (double)block->slots;
    for (size_t i = 0; i < block->size / VALLOC_BLOCK_BYTES; i++, map->cells++) {
        size_t x = LEFT + map->cells % COLUMNS * CELL;
        size_t y = TOP + map->cells / COLUMNS * CELL;
        fprintf(map->out, "<rect x='%zu' y='%zu' width='%d' height='%d' rx='3' ", x, y, CELL - 3,
                CELL - 3);
        if (block->status == VALLOC_BLOCK_FREE)
            fprintf(map->out, "class='free'>");
        else if (block->slot_size >= VALLOC_BLOCK_BYTES)
            fprintf(map->out, "fill='#888'>");
        else
            fprintf(map->out, "fill='hsl(%d 70%% 50%%)' fill-opacity='%.2f'>",
                    hue_of(block->slot_size), 0.15 + 0.85 * fill);
        fprintf(map->out, "<title>%p: %zu of %zu slots of %zu bytes</title></rect>\n",
                block->address, block->live_slots, block->slots, block->slot_size);
    }
    map->live += block->live_slots;
    map->slots += block->slots;
    return 0;
}

static void legend(const Map *map, size_t y)
{
    static const size_t sizes[] = {16, 64, 256, 1024, 4096, 32768};
    size_t x = LEFT;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++, x += 84)
        fprintf(map->out,
                "<rect x='%zu' y='%zu' width='14' height='14' rx='3' fill='hsl(%d 70%% 50%%)'/>"
                "<text x='%zu' y='%zu'>%zu B</text>\n",
                x, y, hue_of(sizes[i]), x + 20, y + 12, sizes[i]);
    fprintf(map->out,
            "<rect x='%zu' y='%zu' width='14' height='14' rx='3' fill='#888'/>"
            "<text x='%zu' y='%zu'>whole</text>"
            "<rect x='%zu' y='%zu' width='14' height='14' rx='3' class='free'/>"
            "<text x='%zu' y='%zu'>free</text>\n",
            x, y, x + 20, y + 12, x + 84, y, x + 104, y + 12);
}

static void write_map(MemoryAllocator *allocator, FILE *out)
{
    Map map = {.out = out};
    size_t rows = allocator->total_blocks / COLUMNS + 1;
    fprintf(out,
            "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 %d %zu' font-family='sans-serif' "
            "font-size='13'>\n<style>svg { color: #222; background: #fff } text { fill: "
            "currentColor } .free { fill: none; stroke: #888 }\n@media (prefers-color-scheme: "
            "dark) { svg { color: #ddd; background: #1b1b1b } }</style>\n",
            2 * LEFT + COLUMNS * CELL, TOP + rows * CELL + 48);
    valloc_blocks(allocator, draw, &map);
    fprintf(
        out,
        "<text x='%d' y='30' font-size='18'>%s: %zu blocks of 64 KiB</text>\n"
        "<text x='%d' y='54'>%zu occupied; %zu of %zu slots live; the paler, the emptier</text>\n",
        LEFT, allocator->name, allocator->total_blocks, LEFT, allocator->used_blocks, map.live,
        map.slots);
    legend(&map, TOP + rows * CELL + 16);
    fprintf(out, "</svg>\n");
}

/* ---- Work ---- */

static unsigned next_random(void)
{
    static unsigned long long state = 42;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (unsigned)(state >> 33);
}

static void work(MemoryAllocator *allocator)
{
    enum { SESSIONS = 12000, REQUESTS = 40 };
    static void *sessions[SESSIONS];
    static void *requests[REQUESTS][200];
    for (int turn = 0; turn < 60000; turn++) {
        unsigned session = next_random() % SESSIONS;
        free_valloc(allocator, sessions[session]);
        sessions[session] =
            next_random() % 3 == 0 ? NULL : valloc_allocate(allocator, 32 + next_random() % 480);
        if (turn % 100 != 0)
            continue;
        void **request = requests[next_random() % REQUESTS];
        for (int i = 0; i < 200; i++) {
            free_valloc(allocator, request[i]);
            unsigned r = next_random();
            request[i] = valloc_allocate(allocator, r % 20 == 0 ? r % 20000 : 16 + r % 1500);
        }
    }
    for (int i = 0; i < REQUESTS / 2; i++)
        for (int j = 0; j < 200; j++)
            free_valloc(allocator, requests[i][j]);
    for (size_t i = 1; i <= 4; i++)
        if (valloc_allocate(allocator, i * 200000) == NULL)
            exit(1);
}

int main(int argc, char **argv)
{
    MemoryAllocator allocator = {0};
    FILE *out = argc > 1 ? fopen(argv[1], "w") : stdout;
    if (out == NULL ||
        valloc_init_with(&allocator, 8, 4, &(valloc_options){.name = "server"}) != 0) {
        perror(argc > 1 ? argv[1] : "heap_map");
        return 1;
    }
    work(&allocator);
    write_map(&allocator, out);
    valloc_destroy(&allocator);
    return fclose(out) == 0 ? 0 : 1;
}
