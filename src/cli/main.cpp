#include "cli/dispatch.h"

int main(int argc, char** argv) { return tsquant::cli::dispatch(argc, argv); }
