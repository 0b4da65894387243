/* Drafts as bytes and seconds alone: what `_schedule` and `_simulate` do, in C.

   The Python files say what is done and why; functions here have their names. Every
   result is equal to theirs to the last bit. tests/_sketch compares them. */

#include <setjmp.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { KEEP, OFFLOAD, RECOMPUTE };
/* What an equation is. A lone view is a view with a single result. */
enum { BACKWARD = 1, HEAVY = 2, CHEAP = 4, PURE = 8, LONE_VIEW = 16, DEFERRED = 32,
       FUSIBLE = 64, ALIAS = 128, REDUCTION = 256, IN_PARTS = 512, CUT = 1024,
       JOIN = 2048 };
/* What an entry is beside its equation: one of the backward pass; one that makes much less
   than it reads, cheaply. */
enum { BEHIND = 4096, NARROWS = 8192 };
/* What a value is. A buffer is one in any schedule. */
enum { ARGUMENT = 1, COTANGENT = 2, OUTPUT = 4, GRADIENT = 8, BUFFER = 16 };
enum { NONE = -1, OF_CALLER = -2 };

typedef int64_t Bytes;

/* Numbers that are appended. */
typedef struct { int *at, count, room; } List;

/* What of a program does not depend on actions. Of several lists in one vector, the
   i-th lies at start[i] to start[i + 1]. */
typedef struct {
  int equations, values, has_hosted, expects_gaps;
  const int *kind, *in_start, *inputs, *out_start, *outputs;
  const int *over_start, *overwritten; /* operands that make way for results */
  const Bytes *nbytes;
  const Bytes *copied_bytes; /* of each value's copy in host memory */
  const Bytes *host_nbytes; /* of each value that sweeps write there */
  const int *trait, *producer, *remaker; /* remakers make values in the backward pass */
  const int *base, *shape, *type; /* shapes and types are numbered */
  const int *residuals, *gradients, *given, *cotangents, *behind;
  int residual_count, gradient_count, given_count, cotangent_count, behind_count;
  /* Seconds that do not depend on operands, or -1; arithmetic; if all are kept. */
  const double *fixed_seconds, *base_seconds, *seconds_alone;
  const double *flops;
  const Bytes *made_bytes, *inside_bytes; /* of results; of device memory inside */
  const double *moved_bytes, *bytes_per_second;
  const double *out_seconds, *back_seconds; /* of each value's copies */
  double launch_seconds, out_share, back_share;
  Bytes caller_bytes, loop_host_bytes, in_place_bytes;
} Program;

/* When a recomputed value is recomputed once more: the arguments of `backward_entries`
   in `_schedule/entries.py`. */
typedef struct { int stale_after, hold_for; Bytes large_bytes; } Staleness;

/* What an entry consists of. That of equation e has number e in the forward pass. In
   the backward pass it has number e plus the number of equations. */
typedef struct {
  int *part_start, *part_end, *read_start, *read_end, *make_start, *make_end;
  List parts, reads, makes;
} Templates;

/* The entries of both passes. */
typedef struct {
  List template_of, kind, heavy, heavy_before, use_start, uses, quiet_until;
  List might_run_early; /* entries of the backward pass that await no cotangent */
  int *made, *last_use, backward_start;
} Order;

/* Swapped values and their gaps. Those of swap k lie at start[k] to start[k + 1]. */
typedef struct {
  List value, free_at, start;
  List left, use, swap, gate, done_at;
} Copies;

/* The first swap or gap of each entry's list, and the next one of each. An entry is busy
   if it waits for copies or starts some. */
typedef struct {
  List is_busy, leave, leave_next, wait, wait_next, back, late, back_next, done, done_next;
} Places;

/* Barriers. `passes` is 1 for a value that one holds in the forward pass, 2 in the
   backward pass, 3 in both. */
typedef struct {
  int *passes, *mark, *after, *held_stamp, *swapped;
  Bytes *held_bytes;
  List values; /* those that have passes */
  List inputs, inputs_end, awaited, awaited_end, item, item_next;
  List recent, pending, device;
  int passed, stamp;
} Held;

/* What is known of a value, as entries are played. */
typedef struct {
  int start, length; /* where `members` has what it is made of */
  int is_buffer;     /* 1: one of the forward pass, 2: of the backward pass, 3: both */
  int in_parts;      /* whether parts of it can be computed */
  int content;       /* the buffer that it is all of, or NONE */
  int is_unmade;     /* whether the caller still waits for it */
} Known;

/* A buffer: its value, the steps that make and last hold it, whether it is the caller's,
   and when it is there. */
typedef struct { int of, made, read, fixed; double arrival; } Buffer;

/* The way of a swapped value: the steps that send it, await that, and last copy it; the
   buffer that it is sent from; when it is on the host. */
typedef struct { int in_flight, sent, buffer, awaited, moved; double at_host; } Travel;

/* A step. A kernel is that of equation `number`, and reads members start to start +
   length. A wait is for so many of `waited`. The others copy swap `number`; what returns
   gets buffer `start`. */
enum { KERNEL, WAIT, LEAVE, RETURN };
typedef struct {
  int what, number, start, length, is_again, is_loop;
  double alone; /* seconds without loop and stalls */
} Step;

typedef struct {
  Known *known, *fresh; /* of each value: now, and before the first entry */
  double *cost;
  /* Sets of what values are made of: an argument by its number, a buffer by its number
     plus that of the values. */
  List members, mark;
  int stamp;
  Buffer *buffers;
  int buffer_count, buffer_room;
  Travel *travels; /* of each swap */
  int travel_room;
  List over, over_step; /* buffers that make way, and for which step */
  List writes, written; /* buffers that an operand may live on in, and the operands */
  List made_over, over_of, by_step; /* buffers that may be written in place, the operands,
                                      and the steps that make them */
  List taken, taken_from; /* buffers that are written in place, and the operands */
  List copied; /* until which step each buffer is copied to the host */
  List waited; /* swaps */
  List first, until;    /* the buffer that each one continues, and its last step */
  Step *steps;
  List entry; /* of each step */
  double *seconds;
  Bytes *bytes_at, *sums; /* room for sums of bytes at each step */
  int step_room, ahead;
  List family;
  double clock, out_lane, back_lane;
} Lanes;

/* When entries run, and what they use. While copies are placed: when heavy entries start,
   and uses of gaps in the order of `by_use`, and when swapped values are there. */
typedef struct {
  double *starts, *ends, *heavy_starts, *use_starts, *made_ends;
  Bytes *used;
  int *started, room;
} Clock;

/* Heavy entries that hide the copy of a value, and levels of entries. */
typedef struct {
  List covers, levels, started, largest_first;
  double *flops, typical_flops, least_flops; /* the least of those listed */
} Distances;

typedef struct {
  Program program;
  Templates templates;
  Order order;
  Copies copies;
  Places places;
  Held held;
  Lanes lanes;
  Clock clock;
  Distances distances;
  Staleness staleness;
  int *stored, *needed, *wanted, *seen, *inline_view, *chain, *mark, *last, *last_own;
  List stack, depth, chain_at, by_use, first_of_use;
  signed char *was_recomputed;
  int has_order, has_templates, may_be_in_place, in_place;
  void *lives; /* of buffers, while they are placed */
  jmp_buf no_memory;
} Space;

static void *resized(Space *space, void *old, size_t nbytes) {
  void *new = realloc(old, nbytes ? nbytes : 1);
  if (!new) longjmp(space->no_memory, 1);
  return new;
}

static void reserve(Space *space, List *list, int room) {
  if (room <= list->room) return;
  list->room = room > 2 * list->room ? room : 2 * list->room;
  list->at = resized(space, list->at, sizeof(int) * (size_t)list->room);
}

static inline void push(Space *space, List *list, int number) {
  if (list->count == list->room) reserve(space, list, list->count + 64);
  list->at[list->count++] = number;
}

/* Let a list consist of so many 0 or NONE: all bytes of these are alike. */
static void fill(Space *space, List *list, int count, int number) {
  reserve(space, list, count);
  list->count = count;
  memset(list->at, number, sizeof(int) * (size_t)count);
}

/* Return the most that sums of bytes reach, which are given as changes at each step. */
static Bytes highest_sum(const Bytes *changes, int steps, Bytes now) {
  Bytes highest = now;
  for (int step = 0; step < steps; step++) {
    now += changes[step];
    if (now > highest) highest = now;
  }
  return highest;
}

static inline int is_behind(const Space *s, int at) {
  return s->order.kind.at[at] & BEHIND;
}

static inline int equation_of(const Space *s, int at) {
  int t = s->order.template_of.at[at];
  return t >= s->program.equations ? t - s->program.equations : t;
}

static inline int is_heavy(const Space *s, int at) {
  return s->order.kind.at[at] & HEAVY;
}

static inline int least(int a, int b) { return a < b ? a : b; }
static inline int most(int a, int b) { return a > b ? a : b; }
static inline double later(double a, double b) { return a > b ? a : b; }
