% Included before a LilyPond source (-dinclude-settings) so that the PDF itself
% says what every note head, bar line and staff is: each becomes a link whose
% URI carries the facts, separated by ";".
%   sf://note/SCORE;MOMENT;GRACE;PITCH;LENGTH;TIED;TEMPO
%   sf://bar/SCORE;MOMENT;MEASURE;GLYPH
%   sf://staff/SCORE;SYSTEM
% SCORE counts \score blocks and SYSTEM counts systems in any order; MOMENT,
% GRACE, LENGTH and TEMPO (whole notes a minute) are rationals; PITCH is in
% semitones from middle C; TIED is 1 on a head that continues a tie.
#(define sf-score-count 0)

#(define sf-systems (make-hash-table))

#(define (sf-system grob)
   (let ((system (ly:grob-system grob)))
     (if (not (hashq-ref sf-systems system))
         (hashq-set! sf-systems system
           (+ 1 (hash-count (const #t) sf-systems))))
     (hashq-ref sf-systems system)))

#(define (sf-link grob stencil uri)
   (if (and (ly:stencil? stencil) (not (ly:stencil-empty? stencil)))
       (let ((x (ly:stencil-extent stencil X))
             (y (ly:stencil-extent stencil Y)))
         (ly:stencil-add
          (ly:make-stencil (list 'url-link uri x y) x y)
          stencil))
       stencil))

#(define (sf-wrap-stencil! grob uri-of)
   (let ((old (ly:grob-property-data grob 'stencil)))
     (ly:grob-set-property! grob 'stencil
       (lambda (g)
         (let ((stencil (if (procedure? old) (old g) old)))
           (sf-link g stencil (uri-of g)))))))

#(define (sf-truth-engraver context)
   (let ((score 0) (tied-next '()) (tied-now '()))
     (make-engraver
      ((initialize engraver)
       (set! sf-score-count (+ sf-score-count 1))
       (set! score sf-score-count))
      (acknowledgers
       ((note-head-interface engraver grob source)
        (let* ((event (ly:grob-property grob 'cause))
               (here (ly:translator-context source))
               (moment (ly:context-current-moment here))
               (tempo (ly:context-property here 'tempoWholesPerMinute)))
          (if (and (ly:stream-event? event)
                   (ly:pitch? (ly:event-property event 'pitch)))
              (let ((pitch (ly:pitch-semitones (ly:event-property event 'pitch)))
                    (length (ly:event-property event 'length)))
                (sf-wrap-stencil! grob
                  (lambda (g)
                    (format #f "sf://note/~a;~a;~a;~a;~a;~a;~a"
                      score (ly:moment-main moment) (ly:moment-grace moment)
                      pitch
                      (if (ly:moment? length) (ly:moment-main length) 0)
                      (if (ly:grob-property g 'sf-tied #f) 1 0)
                      (if (ly:moment? tempo) (ly:moment-main tempo) 0))))))))
       ((bar-line-interface engraver grob source)
        (let* ((here (ly:translator-context source))
               (moment (ly:context-current-moment here))
               (measure (ly:context-property here 'currentBarNumber)))
          (sf-wrap-stencil! grob
            (lambda (g)
              (format #f "sf://bar/~a;~a;~a;~a"
                score (ly:moment-main moment) measure
                (ly:grob-property g 'glyph-name ""))))))
       ((staff-symbol-interface engraver grob source)
        (sf-wrap-stencil! grob
          (lambda (g) (format #f "sf://staff/~a;~a" score (sf-system g)))))
       ((tie-interface engraver grob source) #f))
      (end-acknowledgers
       ((tie-interface engraver grob source)
        (let ((right (ly:spanner-bound grob RIGHT)))
          (if (ly:grob? right)
              (ly:grob-set-property! right 'sf-tied #t))))))))

#(set-object-property! 'sf-tied 'backend-type? boolean?)
#(set-object-property! 'sf-tied 'backend-doc "This head continues a tie.")

\layout { \context { \Score \consists #sf-truth-engraver } }
