// What both libraries of the stand-in know of its GPU, which the environment describes.
#pragma once

#include <cstddef>

extern "C" {
int standin_number(const char* name, int otherwise);
size_t standin_memory();
size_t standin_used();
// Null where that is more than there is.
void* standin_allocate(size_t bytes);
void standin_free(void* address);
bool standin_owns(const void* address, size_t bytes);
}
