#!/usr/bin/perl
# A training program for Fedloom without Python: softmax regression on 8x8 images of digits.
#
# It needs Perl's core and nothing else. To port it to your language you need three things:
#   1. environment variables: what to do, and where the files are     (the tasks below)
#   2. safetensors files, read and written                            (at the end of this file)
#   3. a line of JSON for the result                                  (write_result)
# Exit code 0 means done. With any other, the client is left out of this round, and the last line
# that the program printed is shown as the reason.

use strict;
use warnings;
use List::Util qw(max shuffle sum);

my $PIXELS  = 64;
my $CLASSES = 10;

my %tasks = (initialize => \&initialize, train => \&train, evaluate => \&evaluate);
my $name  = variable('FEDLOOM_TASK');
my $task  = $tasks{$name}
    or die "FEDLOOM_TASK: got '$name', expected initialize, train or evaluate\n";
$task->();

# ---- the three tasks ---------------------------------------------------------------------------

# Make the first model; there is no data here. FEDLOOM_SEED would seed random weights, but softmax
# regression starts well from zeros.
sub initialize {
    my %model = (
        weight => { shape => [$PIXELS, $CLASSES], values => [(0) x ($PIXELS * $CLASSES)] },
        bias   => { shape => [$CLASSES],          values => [(0) x $CLASSES] },
    );
    write_safetensors(variable('FEDLOOM_UPDATE'), \%model);
}

# Read the global model, make it better on this client's data, write all of its new weights. Fedloom
# takes the difference, compresses it and averages it with those of the other clients.
sub train {
    my $model    = read_safetensors(variable('FEDLOOM_MODEL'));
    my @examples = read_examples(variable('TRAIN_DATASET_URL'));
    # The job's hyperparameters: `learningRate` is also learning_rate and LEARNING_RATE.
    my ($epochs, $rate) = (variable('EPOCHS'), variable('LEARNING_RATE'));
    # The same seed on a retry, another one in every round: the same job gives the same model again.
    srand(variable('FEDLOOM_SEED'));

    my ($weight, $bias) = ($model->{weight}{values}, $model->{bias}{values});
    my ($loss, $steps) = (0, 0);
    for (1 .. $epochs) {
        for my $example (shuffle @examples) {
            my $p = probabilities($model, $example);
            $loss += -log($p->[ $example->{digit} ] + 1e-12);
            $steps++;
            # The slope of the loss: probability - 1 for the right class, probability for others.
            $p->[ $example->{digit} ] -= 1;
            $_ *= $rate for @$p;
            $bias->[$_] -= $p->[$_] for 0 .. $CLASSES - 1;
            for my $pixel (@{ $example->{ink} }) {
                my ($index, $value) = @$pixel;
                my $row = $index * $CLASSES;
                $weight->[$row + $_] -= $p->[$_] * $value for 0 .. $CLASSES - 1;
            }
        }
    }
    write_safetensors(variable('FEDLOOM_UPDATE'), $model);
    write_result(scalar(@examples), { loss => $loss / $steps }, $steps);
}

# Say how good the global model is on the evaluation's data.
sub evaluate {
    my $model    = read_safetensors(variable('FEDLOOM_MODEL'));
    my @examples = read_examples(variable('TRAIN_DATASET_URL'));
    my ($hits, $loss) = (0, 0);
    for my $example (@examples) {
        my $p = probabilities($model, $example);
        my $chance = $p->[ $example->{digit} ];
        $hits++ if $chance == max(@$p);
        $loss += -log($chance + 1e-12);
    }
    my $count = @examples;
    write_result($count, { accuracy => $hits / $count, loss => $loss / $count });
}

# ---- the model ---------------------------------------------------------------------------------

# Probabilities of the ten digits for one image: softmax(pixels * weight + bias).
sub probabilities {
    my ($model, $example) = @_;
    my $weight = $model->{weight}{values};
    my @scores = @{ $model->{bias}{values} };
    for my $pixel (@{ $example->{ink} }) {
        my ($index, $value) = @$pixel;
        my $row = $index * $CLASSES;
        $scores[$_] += $value * $weight->[$row + $_] for 0 .. $CLASSES - 1;
    }
    my $highest = max(@scores);
    $_ = exp($_ - $highest) for @scores;
    my $total = sum(@scores);
    $_ /= $total for @scores;
    return \@scores;
}

# Lines of "digit,pixel,pixel,..." with pixels from 0 to 16. Half of the pixels are empty: only
# those with ink are kept, as [index, value in (0, 1]].
sub read_examples {
    my ($path) = @_;
    open(my $file, '<', $path) or die "$path: $!\n";
    my @examples;
    while (my $line = <$file>) {
        chomp $line;
        my ($digit, @pixels) = split /,/, $line;
        @pixels == $PIXELS or die "$path line $.: got " . @pixels . " pixels, expected $PIXELS\n";
        my @ink = map { [$_, $pixels[$_] / 16] } grep { $pixels[$_] > 0 } 0 .. $#pixels;
        push @examples, { digit => $digit, ink => \@ink };
    }
    return @examples;
}

# ---- what Fedloom reads and writes -------------------------------------------------------------

sub variable {
    my ($name) = @_;
    return $ENV{$name} // die "$name: got nothing, expected a value: `fedloom run` sets it\n";
}

# {"num_examples": 300, "num_steps": 600, "metrics": {"loss": 0.41}}; num_steps may be left out.
sub write_result {
    my ($num_examples, $metrics, $num_steps) = @_;
    my $numbers = join ', ', map { sprintf '"%s": %.9g', $_, $metrics->{$_} } sort keys %$metrics;
    my $steps   = defined $num_steps ? qq("num_steps": $num_steps, ) : '';
    my $json    = qq({"num_examples": $num_examples, $steps"metrics": {$numbers}}\n);
    write_file(variable('FEDLOOM_RESULT'), $json);
}

# A safetensors file is:
#   8 bytes   length of the header, an unsigned little-endian integer
#   header    JSON: {"bias": {"dtype": "F32", "shape": [10], "data_offsets": [0, 40]}, ...}
#   data      the numbers of all tensors, little-endian, rows first; offsets count from here
# Arrays come and go with the same names, shapes and dtypes: this model is all float32 (F32).

sub read_safetensors {
    my ($path) = @_;
    open(my $file, '<:raw', $path) or die "$path: $!\n";
    my $bytes  = do { local $/; <$file> };
    my $length = unpack 'Q<', $bytes;
    my $header = substr $bytes, 8, $length;
    my %model;
    # With a JSON parser at hand this is a loop over its keys.
    while ($header =~ /"([^"]+)"\s*:\s*\{([^{}]*)\}/g) {
        my ($name, $about) = ($1, $2);
        next if $name eq '__metadata__';
        my ($dtype)       = $about =~ /"dtype"\s*:\s*"(\w+)"/;
        my ($shape)       = $about =~ /"shape"\s*:\s*\[([\d,\s]*)\]/;
        my ($begin, $end) = $about =~ /"data_offsets"\s*:\s*\[\s*(\d+)\s*,\s*(\d+)\s*\]/;
        $dtype eq 'F32' or die "$path: tensor $name: got $dtype, expected F32\n";
        my @values = unpack 'f<*', substr($bytes, 8 + $length + $begin, $end - $begin);
        $model{$name} = { shape => [split /\s*,\s*/, $shape], values => \@values };
    }
    return \%model;
}

sub write_safetensors {
    my ($path, $model) = @_;
    my ($data, @about) = ('');
    for my $name (sort keys %$model) {
        my $begin = length $data;
        $data .= pack 'f<*', @{ $model->{$name}{values} };
        my $shape = join ',', @{ $model->{$name}{shape} };
        my $end   = length $data;
        push @about, qq("$name":{"dtype":"F32","shape":[$shape],"data_offsets":[$begin,$end]});
    }
    my $header = '{' . join(',', @about) . '}';
    $header .= ' ' x (-length($header) % 8);    # the numbers start at a multiple of 8
    write_file($path, pack('Q<', length $header) . $header . $data);
}

sub write_file {
    my ($path, $bytes) = @_;
    open(my $file, '>:raw', $path) or die "$path: $!\n";
    print {$file} $bytes or die "$path: $!\n";
    close($file) or die "$path: $!\n";    # a full disk shows here
}
