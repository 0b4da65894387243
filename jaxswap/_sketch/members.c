/* What values are made of: sets of buffers and of what the caller gives, as
   `_simulate/kernels.py` has them. */

static inline int is_buffer_of(const Space *s, int member) {
  return member >= s->program.values;
}

static inline Buffer *buffer_at(const Space *s, int member) {
  return s->lanes.buffers + (member - s->program.values);
}

/* Add members to a set that ends the list of all, if they are not in it yet. */
static int add_members(Space *s, int start, int length) {
  Lanes *lanes = &s->lanes;
  List *members = &lanes->members;
  int added = 0;
  reserve(s, members, members->count + length);
  for (int i = start; i < start + length; i++) {
    int member = members->at[i];
    if (lanes->mark.at[member] == lanes->stamp) continue;
    lanes->mark.at[member] = lanes->stamp;
    members->at[members->count + added++] = member;
  }
  members->count += added;
  return added;
}

/* Find the union of the sets of what an equation reads. */
static void unite(Space *s, int e, int *start, int *length) {
  const Program *p = &s->program;
  const Known *known = s->lanes.known;
  int i = p->in_start[e], end = p->in_start[e + 1], from = 0, count = 0;
  for (; i < end; i++) { /* mostly, one set has all */
    const Known *one = known + p->inputs[i];
    if (!one->length || (one->start == from && one->length == count)) continue;
    if (count) break;
    from = one->start, count = one->length;
  }
  *start = from, *length = count;
  if (i == end) return;
  s->lanes.stamp++;
  *start = s->lanes.members.count;
  *length = add_members(s, from, count);
  for (; i < end; i++) {
    const Known *one = known + p->inputs[i];
    if (one->start != from || one->length != count)
      *length += add_members(s, one->start, one->length);
  }
}

/* Whether the buffers of a set are in another one, too. */
static int is_within(Space *s, int start, int length, int other, int count) {
  Lanes *lanes = &s->lanes;
  const int *members = lanes->members.at;
  int *mark = lanes->mark.at, stamp = ++lanes->stamp, left = 0;
  for (int i = start; i < start + length; i++) {
    mark[members[i]] = stamp;
    left += is_buffer_of(s, members[i]);
  }
  if (left > count) return 0;
  for (int i = other; i < other + count; i++)
    left -= mark[members[i]] == stamp && is_buffer_of(s, members[i]);
  return !left;
}

/* Make the buffer of a value, and return its number. */
static int new_buffer(Space *s, int v, int step) {
  Lanes *lanes = &s->lanes;
  Known *known = lanes->known + v;
  int b = lanes->buffer_count++, member = s->program.values + b;
  if (b == lanes->buffer_room) {
    lanes->buffer_room = 2 * b + 64;
    lanes->buffers =
        resized(s, lanes->buffers, sizeof(Buffer) * (size_t)lanes->buffer_room);
  }
  lanes->buffers[b] = (Buffer){v, step, step, known->is_unmade, 0.0};
  while (lanes->mark.count <= member) push(s, &lanes->mark, 0);
  *known = (Known){lanes->members.count, 1, known->is_buffer, 1, b, 0};
  push(s, &lanes->members, member);
  return b;
}

/* Whether a value is made, where it is read, of a buffer of so many bytes. */
static int is_cut_from(const Space *s, int v, Bytes nbytes) {
  const Known *known = s->lanes.known + v;
  for (int i = known->start; i < known->start + known->length; i++) {
    int member = s->lanes.members.at[i];
    if (is_buffer_of(s, member) &&
        s->program.nbytes[buffer_at(s, member)->of] >= nbytes)
      return 1;
  }
  return 0;
}

/* Whether parts of an equation's result follow from parts of values in memory. It matters
   only to what may be written in place. */
static int is_in_parts(const Space *s, int e) {
  const Program *p = &s->program;
  if (!s->may_be_in_place || !(p->kind[e] & IN_PARTS)) return 0;
  int made = p->outputs[p->out_start[e]];
  for (int i = p->in_start[e]; i < p->in_start[e + 1]; i++) {
    int v = p->inputs[i], is_whole = p->shape[v] != p->shape[made];
    if (is_whole ? is_cut_from(s, v, p->nbytes[made]) : !s->lanes.known[v].in_parts)
      return 0;
  }
  return 1;
}
