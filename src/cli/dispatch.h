#pragma once

namespace tsquant::cli {

/// Runs one command line of the program. @return the exit code; errors were printed to stderr
int dispatch(int argc, char** argv);

}  // namespace tsquant::cli
